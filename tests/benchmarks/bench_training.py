"""What transformers' Trainer adds to a bare loop over the same batches and the same objective."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_genret.data import Documents, Queries, RetrievalData
from hf_genret.encoding import ItemSource, QuerySource
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.training import GenRetTrainer, GenRetTrainingArguments
from hf_genret.training.bag import train_tokenizer
from hf_genret.training.batches import TrainingData
from hf_genret.training.curriculum import stages_from

STEPS, WARM, DOCUMENTS = 40, 8, 4000


class Watch(TrainerCallback):
    """Seconds of every step, from the end of the one before, and the batches that came."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())


def texts():
    """Documents of 30 words of a Zipf vocabulary, and a query of six of them each."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(5000)])
    share = 1 / np.arange(1, 5001)
    drawn = words[rng.choice(5000, (DOCUMENTS, 30), p=share / share.sum())]
    whole = [" ".join(row) for row in drawn]
    return whole, [" ".join(row[:6]) for row in drawn]


def trainer_for(batch, folder):
    """Cross-entropy on fixed ids; encoder, decoder and heads learn."""
    whole, asked = texts()
    documents = Documents([str(n) for n in range(DOCUMENTS)], [""] * DOCUMENTS, whole)
    rng = np.random.default_rng(1)
    rows = rng.integers(DOCUMENTS, size=batch * STEPS)
    queries = Queries(
        [str(n) for n in range(len(rows))],
        [{int(row): 1.0} for row in rows],
        [asked[row] for row in rows],
    )
    data = RetrievalData("bench", "0" * 16, documents, {"train": queries})
    tokenizer = train_tokenizer(whole, vocab_size=4000)
    torch.manual_seed(0)
    model = GenRetModel(
        GenRetConfig(
            query_encoder={"type": "bag", "vocab_size": len(tokenizer), "dim": 96},
            vector_dim=96,
            codebook_sizes=[256] * 4,
            decoder_dim=96,
            decoder_layers=2,
            decoder_heads=4,
            head_type="plain",
        )
    )
    query, row = data.splits["train"].pairs()
    source = TrainingData(
        ItemSource(model, documents, tokenizer),
        QuerySource(model, queries, tokenizer),
        None,
        query,
        row,
    )
    stage = {
        "name": "final",
        "objective": "cross_entropy",
        "train": ["encoder", "decoder", "heads"],
        "max_steps": STEPS,
        "batch_size": batch,
        "learning_rate": 1e-3,
    }
    trainer = GenRetTrainer(
        model,
        GenRetTrainingArguments(
            output_dir=str(folder), report_to=[], disable_tqdm=True, save_strategy="no"
        ),
        data=source,
        stages=stages_from([stage]),
        processing_class=tokenizer,
    )
    codes = torch.randint(256, (DOCUMENTS, 4), generator=torch.Generator().manual_seed(0))
    trainer.run.codes.copy_(codes)
    return trainer


@pytest.mark.parametrize("batch", [64, 1024])
def test_trainer_against_a_bare_loop(batch, tmp_path, monkeypatch, record, goals):
    """Medians over steps; the bare loop has its batches ready, a fused AdamW, and clips too."""
    trainer = trainer_for(batch, tmp_path)
    watch, batches, kept = Watch(), [], {}
    trainer.add_callback(watch)
    real = type(trainer).compute_loss

    def keeping(self, model, inputs, *args, **kwargs):
        batches.append(inputs)
        kept["objective"] = self.objective
        return real(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(type(trainer), "compute_loss", keeping)
    trainer.train()
    model = trainer.model.train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3, fused=True)
    seconds = []
    for inputs in batches:
        start = time.perf_counter()
        sum(model(objective=kept["objective"], batch=inputs).values()).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    ours, bare = float(np.median(np.diff(watch.ends)[WARM:])), float(np.median(seconds[WARM:]))
    if batch >= 1024:
        goals.add(f"Trainer, batch {batch}", 1.08, ours / bare, "a bare fused loop")
    figures = {"trainer": 1e3 * ours, "bare": 1e3 * bare, "pairs_a_second": batch / ours}
    record(f"trainer_{batch}", {"milliseconds_a_step": figures})

"""Stages, their batches, what learns in them, and which weights they keep."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.encoding import backbone_vectors
from hf_genret.errors import CheckpointError, ConfigError
from hf_genret.training.batches import PairBatches, PairDataset, pair_loader
from hf_genret.training.callbacks import KeepBest
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.freezing import freeze

RANKER: dict[str, Any] = {
    "name": "encoder",
    "objective": "ranker",
    "train": ["encoder", "ranker"],
    "batch_size": 16,
    "max_steps": 2,
}

# ---- stages -------------------------------------------------------------------------------


def test_stages_from_settings(stage_settings):
    """Every field arrives; what is left out has its default."""
    stages = stages_from(stage_settings)
    assert [stage.name for stage in stages] == ["encoder", "level-1", "final"]
    assert stages[0].keep_best == "ndcg@10" and stages[0].options == {"shared": 8}
    assert stages[1].after["assign"] == "greedy" and stages[1].keep_best is None
    assert stages[2].weight_decay == 0.0 and stages[2].level == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, "setting of stage 'encoder' 'epoch'; did you mean 'epochs'"),
        ({"train": ["encodr"]}, r"trains .*encodr.*known parts: encoder, .*adapter"),
        ({"train": "encoder"}, "stages.encoder.train is 'encoder'; a list of names"),
        ({"epochs": 0}, "needs epochs > 0"),
        ({"batch_size": 0}, "batch_size is 0; a number from 1"),
        ({"epochs": "many"}, "stages.encoder.epochs is 'many'; a number was expected"),
    ],
)
def test_wrong_stages(change, message):
    """One sentence names the stage, the setting and what was expected."""
    with pytest.raises(ConfigError, match=message):
        stages_from([RANKER | change])


def test_stages_that_are_none():
    """A missing objective, a name given twice, and no list at all."""
    with pytest.raises(ConfigError, match="Stage 'x' lacks objective, train"):
        stages_from([{"name": "x"}])
    with pytest.raises(ConfigError, match="Two stages are called 'encoder'"):
        stages_from([RANKER, RANKER])
    with pytest.raises(ConfigError, match="no list of stages"):
        stages_from(["encoder"])


def test_the_state_survives(tmp_path):
    """Saved and loaded it is the same; without its files it is an error."""
    state = RunState.fresh(5, 2)
    state.codes[2, 1], state.start_codes[0, 0] = 7, 3
    state.stage, state.started, state.log = 2, True, [{"stage": "a", "steps": 3}]
    state.first = {"eval_ndcg@10": 0.5}
    state.save(tmp_path)
    found = RunState.load(tmp_path)
    assert torch.equal(found.codes, state.codes)
    assert torch.equal(found.start_codes, state.start_codes)
    assert (found.stage, found.started) == (2, True)
    assert (found.log, found.first) == (state.log, state.first)
    (tmp_path / "curriculum.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"curriculum\.safetensors: the file is missing"):
        RunState.load(tmp_path)
    (tmp_path / "curriculum.json").unlink()
    with pytest.raises(CheckpointError, match="no state to resume from"):
        RunState.load(tmp_path)


# ---- batches ------------------------------------------------------------------------------

LENGTHS = np.random.default_rng(3).integers(1, 50, size=47)


def order(seed: int, stage: int, epoch: int) -> list[list[int]]:
    sampler = PairBatches(LENGTHS, 8, seed, stage)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_pair_once_an_epoch():
    """Whatever seed, stage and epoch; the batch that is not full comes last."""
    for key in [(0, 0, 0), (1, 2, 3)]:
        batches = order(*key)
        assert sorted(n for batch in batches for n in batch) == list(range(47))
        assert [len(batch) for batch in batches] == [8] * 5 + [7]
        assert len(batches) == len(PairBatches(LENGTHS, 8, 0, 0))


def test_order_is_a_function_of_seed_stage_and_epoch():
    """The same three give the same order, each of them another one."""
    assert order(1, 2, 3) == order(1, 2, 3)
    others = [order(0, 2, 3), order(1, 0, 3), order(1, 2, 0)]
    assert all(other != order(1, 2, 3) for other in others)


def test_batches_are_of_similar_length():
    """Sorted within chunks: the spread inside a batch is far below the spread of all."""
    lengths = np.random.default_rng(0).integers(1, 1000, size=800)
    spread = [np.ptp(lengths[batch]) for batch in PairBatches(lengths, 16, 0, 0)]
    assert np.mean(spread) < 50


def test_what_a_batch_holds(tiny, model_on, pairs_of):
    """Inputs of queries, items and sampled items; the draw depends on the pairs alone."""
    model, tokenizer = model_on(tiny)
    data = pairs_of(tiny, model, tokenizer)

    def sample(queries, rows, rng):
        return {"random": rng.integers(60, size=5)}

    batch = PairDataset(data, sample, 0, 1).__getitems__([4, 2, 9])
    again = PairDataset(data, sample, 0, 1).__getitems__([4, 2, 9])
    assert batch["queries"].tolist() == data.pair_query[[4, 2, 9]].tolist()
    assert batch["rows"].tolist() == data.pair_row[[4, 2, 9]].tolist()
    assert torch.equal(batch["sampled_rows"]["random"], again["sampled_rows"]["random"])
    drawn = batch["sampled_rows"]["random"].numpy()
    expected = data.items.batch(drawn)
    assert torch.equal(batch["sampled"]["random"]["input_ids"], expected["input_ids"])
    loader = pair_loader(data, sample, 16, 0, 1)
    assert sum(len(batch["rows"]) for batch in loader) == len(data.pair_row) == 40


def test_every_epoch_has_its_own_order(trainer_at, tmp_path, monkeypatch):
    """Through Trainer and accelerate the sampler learns which epoch it is."""
    trainer = trainer_at(tmp_path, [RANKER | {"max_steps": 0, "epochs": 3}])
    seen: list[list[int]] = []
    real = trainer.compute_loss

    def note(model, inputs, *args, **kwargs):
        seen.append(inputs["queries"].tolist())
        return real(model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "compute_loss", note)
    trainer.train()
    expected = []
    for epoch in range(3):
        data = trainer.data
        lengths = data.train.lengths()[data.pair_query] + data.items.lengths()[data.pair_row]
        sampler = PairBatches(lengths, 16, 3, 0)
        sampler.set_epoch(epoch)
        expected += [data.pair_query[batch].tolist() for batch in sampler]
    assert seen == expected and len(seen) == 9


# ---- what learns --------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["encoder", "adapter", "decoder", "heads", "ranker"])
def test_freeze(tiny, model_on, part):
    """Only the named part asks for gradients."""
    model, _ = model_on(tiny)
    freeze(model, [part])
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    prefix = {"encoder": "encoder.query.", "adapter": "encoder.query_adapter."}.get(part, part)
    assert learning and all(name.startswith(prefix) for name in learning)


def test_only_the_stage_s_parts_move(trainer_at, tmp_path, weights):
    """After a stage everything else is bit-equal."""
    trainer = trainer_at(tmp_path, [RANKER | {"train": ["adapter"]}])
    before = weights(trainer.model)
    trainer.train()
    moved = [n for n, value in weights(trainer.model).items() if not torch.equal(value, before[n])]
    assert moved == ["encoder.query_adapter.weight"]


def test_a_frozen_encoder_is_run_once(trainer_at, tmp_path, monkeypatch):
    """Its vectors are computed before the stage, equal to its own, and read from then on."""
    trainer = trainer_at(tmp_path, [RANKER | {"train": ["adapter", "ranker"]}])
    expected = backbone_vectors(trainer.model, trainer.data.items)
    calls: list[int] = []
    encoder = trainer.model.encoder.query
    encoder.register_forward_hook(lambda *_: calls.append(len(calls)))
    trainer.train()
    assert len(calls) == 3  # 60 documents, 40 queries, 40 dev queries: one batch each
    assert torch.equal(trainer.data.items.vectors, expected)


def test_a_learning_encoder_reads_text(trainer_at, tmp_path):
    """Vectors of a frozen stage are dropped where the encoder learns again."""
    frozen = RANKER | {"name": "frozen", "train": ["ranker"]}
    trainer = trainer_at(tmp_path, [frozen, RANKER])
    trainer.train()
    assert trainer.data.items.vectors is None and trainer.data.train.vectors is None


def test_learning_rate_and_steps_are_the_stage_s(trainer_at, tmp_path):
    """Arguments of a stage replace those of the run."""
    stage = RANKER | {"learning_rate": 0.02, "weight_decay": 0.1, "epochs": 2, "max_steps": 0}
    trainer = trainer_at(tmp_path, [stage])
    args = trainer._stage_args(trainer.stages[0])
    assert (args.learning_rate, args.weight_decay, args.max_steps) == (0.02, 0.1, 6)
    assert args.per_device_train_batch_size == 16 and trainer.args.learning_rate != 0.02


# ---- the best weights ---------------------------------------------------------------------


def dev_says(monkeypatch, values: list[float]) -> None:
    from hf_genret.training import genret_trainer

    left = iter(values)
    monkeypatch.setattr(genret_trainer, "dev_metrics", lambda *a, **k: {"ndcg@10": next(left)})


def test_the_start_can_be_the_best(trainer_at, tmp_path, monkeypatch, weights):
    """Step 0 takes part: a stage that only makes things worse changes nothing."""
    dev_says(monkeypatch, [0.9, 0.5, 0.6])
    stage = RANKER | {"keep_best": "ndcg@10", "evaluations": 2, "learning_rate": 0.1}
    trainer = trainer_at(tmp_path, [stage])
    before = weights(trainer.model)
    trainer.train()
    assert all(torch.equal(value, before[n]) for n, value in weights(trainer.model).items())
    assert trainer.run.log[0]["best_step"] == 0 and trainer.run.log[0]["ndcg@10"] == 0.9


def test_patience_ends_a_stage(trainer_at, tmp_path, monkeypatch):
    """Two evaluations without gain after the best one."""
    dev_says(monkeypatch, [0.1, 0.5, 0.4, 0.5, 0.9])
    stage = RANKER | {"keep_best": "ndcg@10", "evaluations": 6, "max_steps": 6, "epochs": 5}
    trainer = trainer_at(tmp_path, [stage | {"patience": 2}])
    trainer.train()
    assert trainer.run.log[0]["steps"] == 3 and trainer.run.log[0]["best_step"] == 1


def test_without_dev_the_last_weights_stay(trainer_at, tmp_path, make_data, caplog):
    """keep_best is left aside with a warning when there are no dev queries."""
    data = make_data()
    del data.splits["dev"]
    trainer = trainer_at(tmp_path, [RANKER | {"keep_best": "ndcg@10"}], data)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "No dev queries: stage encoder keeps its last weights" in caplog.text
    assert "best_step" not in trainer.run.log[0]


def test_a_metric_that_the_stage_does_not_measure(trainer_at, tmp_path):
    """Candidate recall is measured where the decoder is trained on ids."""
    trainer = trainer_at(tmp_path, [RANKER | {"keep_best": "recall"}])
    with pytest.raises(
        ConfigError, match=r"'recall', which this stage does not measure; known: nd"
    ):
        trainer.train()


def test_keep_best_survives(tmp_path, tiny, model_on):
    """Value, step, waiting and weights are in its file; a folder without one changes nothing."""
    model, _ = model_on(tiny)
    freeze(model, ["heads"])
    best = KeepBest("recall", 3)
    best.offer(model, 0.25, 4)
    best.offer(model, 0.2, 5)
    best.save(tmp_path)
    found = KeepBest("recall", 3)
    found.load(tmp_path / "nowhere")
    assert found.value == float("-inf") and not found.weights
    found.load(tmp_path)
    assert (found.value, found.step, found.waited) == (0.25, 4, 1)
    assert set(found.weights) == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not found.exhausted


# ---- the trainer --------------------------------------------------------------------------


def test_ids_that_nothing_gave(trainer_at, tmp_path):
    """Level 2 or cross-entropy before any assignment is one sentence, not an index error."""
    deep = RANKER | {"objective": "uri", "level": 2, "train": ["decoder", "heads"]}
    with pytest.raises(ConfigError, match="reads the codes of 1 levels, and no stage before"):
        trainer_at(tmp_path, [deep]).train()
    final = RANKER | {"objective": "cross_entropy", "train": ["decoder", "heads"]}
    with pytest.raises(ConfigError, match="reads the codes of 2 levels"):
        trainer_at(tmp_path, [final]).train()


def test_terms_are_logged_by_name(trainer_at, tmp_path):
    """Each term's mean since the last log stands beside the loss."""
    stage = RANKER | {"objective": "uri", "level": 1, "train": ["decoder", "heads"]}
    trainer = trainer_at(tmp_path, [stage | {"max_steps": 4, "epochs": 2}])
    trainer.train()
    logged = [entry for entry in trainer.run.log[0]["history"] if "loss" in entry]
    names = {"loss_query", "loss_item", "loss_commitment", "loss_balance"}
    assert logged and all(names <= set(entry) for entry in logged)
    for entry in logged:
        assert entry["loss"] == pytest.approx(sum(entry[name] for name in names), abs=1e-3)


def test_special_tokens_stay_those_of_ids(trainer_at, tmp_path):
    """transformers would put the tokenizer's, which end ids early, into the configuration."""
    trainer = trainer_at(tmp_path, [RANKER | {"before": {"ids": "kmeans"}}])
    tokenizer = trainer.processing_class
    tokenizer.add_special_tokens({"eos_token": "[EOS]", "bos_token": "[BOS]", "pad_token": "[P]"})
    trainer.train()
    for config in (trainer.model.config, trainer.model.generation_config):
        assert (config.pad_token_id, config.eos_token_id, config.bos_token_id) == (0, None, None)
    inputs = trainer.data.train.batch(np.arange(2))
    trainer.model.eval()
    assert trainer.model.generate(**inputs, num_beams=2).shape == (2, 3)

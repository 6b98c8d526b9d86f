"""The gradient cache against encoding all at once, with and without dropout."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetModel
from hf_genret.training.build import build
from hf_genret.training.objectives import Context, RankerObjective, ranker
from hf_genret.training.objectives.gradient_cache import encode_in_chunks
from hf_genret.training.recipes import load_recipe

BATCH = 10


def text_start(data, folder: Path, dropout: float) -> Any:
    """A one-layer BERT that learns."""
    settings = [f"encoder={folder}", "text.freeze=false", "queries.pseudo=1"]
    start = build(load_recipe("dense", settings), data, seed=0)
    set_dropout(start.model, dropout)
    return start


def set_dropout(model: GenRetModel, share: float) -> None:
    """Everywhere, attention included; the model draws it from now on."""
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = share
        elif hasattr(part, "dropout_prob"):
            part.dropout_prob = share
    model.train()


def inputs_of(start: Any, options: dict[str, Any]) -> tuple[RankerObjective, dict[str, Any]]:
    """An objective and a batch of training pairs, with shared and own negatives."""
    data = start.data
    codes = torch.zeros(len(data.items), 2, dtype=torch.long)
    context = Context(codes, 0, [1, 1], data.train.queries.relevant)
    objective = RankerObjective(context, {"shared": 7, "random": 2} | options)
    pairs = np.arange(BATCH)
    queries, rows = data.pair_query[pairs], data.pair_row[pairs]
    sampled = objective.sample_for(queries, rows, np.random.default_rng(0))
    return objective, {
        "query": data.train.batch(queries),
        "item": data.items.batch(rows),
        "queries": torch.from_numpy(queries),
        "rows": torch.from_numpy(rows),
        "sampled": {name: data.items.batch(more) for name, more in sampled.items()},
        "sampled_rows": {name: torch.from_numpy(more) for name, more in sampled.items()},
    }


def gradients(start: Any, chunk: int) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one step."""
    objective, batch = inputs_of(start, {"cache_chunk": chunk})
    start.model.zero_grad()
    torch.manual_seed(5)
    loss = objective(start.model, batch)["ranker"]
    loss.backward()
    named = start.model.named_parameters()
    return loss.item(), {n: p.grad.clone() for n, p in named if p.grad is not None}


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys() and len(found) > 5
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def in_graphs(encode: Any, inputs: dict[str, Tensor], size: int) -> Tensor:
    """The same chunks, each with its graph: the reference."""
    cut = {name: value.split(size) for name, value in inputs.items()}
    parts = [dict(zip(cut, part, strict=True)) for part in zip(*cut.values(), strict=True)]
    return torch.cat([encode(**part).pooler_output for part in parts])


@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
def test_the_gradient_is_the_plain_one(tiny, bert_folder, chunk):
    """Queries, positives, shared and own negatives; chunks that do not divide the batch."""
    start = text_start(tiny, bert_folder, 0.0)
    loss, plain = gradients(start, 0)
    found, cached = gradients(start, chunk)
    assert found == pytest.approx(loss, rel=1e-5)
    assert_close(cached, plain)


def test_histories_are_cut_too(sequence_data):
    """The sequence encoder and its table of items."""
    settings = ["items={dim: 16, feature_dim: 8, layers: 1, dropout: 0.0, feature_dropout: 0.0}"]
    start = build(load_recipe("uri-sequential", settings), sequence_data, seed=0)
    start.model.train()
    loss, plain = gradients(start, 0)
    found, cached = gradients(start, 4)
    assert found == pytest.approx(loss, rel=1e-5)
    assert_close(cached, plain)


def test_dropout_is_drawn_again_as_it_was(tiny, bert_folder, monkeypatch):
    """The reference encodes the same chunks with their graphs; all is equal to the last bit."""
    start = text_start(tiny, bert_folder, 0.3)
    loss, cached = gradients(start, 3)

    monkeypatch.setattr(ranker, "encode_in_chunks", in_graphs)
    wanted, plain = gradients(start, 3)
    assert loss == wanted
    for name, gradient in plain.items():
        assert torch.equal(cached[name], gradient), name
    set_dropout(start.model, 0.0)
    assert gradients(start, 3)[0] != loss


def test_what_is_drawn_after_a_step_does_not_change(tiny, bert_folder):
    """Encoding again leaves the random state as the first time had left it."""
    start = text_start(tiny, bert_folder, 0.3)
    objective, batch = inputs_of(start, {"cache_chunk": 3})
    loss = objective(start.model, batch)["ranker"]
    before = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("way", "alive"), [(in_graphs, BATCH), (encode_in_chunks, 2)])
def test_activations_of_one_chunk_at_a_time(tiny, bert_folder, way, alive):
    """What an inner layer said of other chunks is gone, going forth and going back."""
    start = text_start(tiny, bert_folder, 0.0)
    outputs: list[weakref.ref[Tensor]] = []
    most = [0]

    def watch(module, given, output):
        outputs.append(weakref.ref(output))
        most[0] = max(most[0], sum(len(kept) for ref in outputs if (kept := ref()) is not None))

    layer = start.model.encoder.query.backbone.encoder.layer[0].intermediate.dense
    layer.register_forward_hook(watch)
    inputs = start.data.items.batch(start.data.pair_row[:BATCH])
    way(start.model.encode_items, inputs, 2).square().sum().backward()
    assert most[0] == alive
    assert len(outputs) == BATCH // 2 * (2 if way is encode_in_chunks else 1)


@pytest.mark.parametrize("name", ["item_vectors", "items"])
def test_what_is_looked_up_is_not_cut(name):
    """Vectors of a frozen encoder and rows of a catalogue come in one piece."""
    calls = []

    class Encoded:
        pooler_output = torch.zeros(4, 2)

    def encode(**inputs):
        calls.append(inputs)
        return Encoded

    given = torch.zeros(4)
    assert encode_in_chunks(encode, {name: given}, 1) is Encoded.pooler_output
    assert len(calls) == 1 and calls[0][name] is given


def test_a_stage_trains_with_it(trainer_at, tmp_path, stage_settings, weights):
    """Through the Trainer: the weights of a plain stage but for rounding."""
    found = []
    for chunk in (0, 5):
        stage = stage_settings[0] | {"options": {"shared": 8, "cache_chunk": chunk}}
        stage |= {"keep_best": None, "max_steps": 4}
        trainer = trainer_at(tmp_path / str(chunk), [stage])
        start = weights(trainer.model)
        trainer.train()
        found.append(weights(trainer.model))
    name = "encoder.query.embedding.weight"
    assert (found[0][name] - start[name]).abs().max() > 0.005
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_a_negative_number_of_texts():
    """One sentence."""
    context = Context(torch.zeros(3, 2, dtype=torch.long), 0, [1, 1], [])
    with pytest.raises(ConfigError, match="cache_chunk is a number of texts"):
        RankerObjective(context, {"cache_chunk": -1})

"""DSI and NCI: loss terms on a few numbers by hand, and whole trainings on their recipes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.errors import ConfigError
from hf_genret.modeling import EncoderOutput
from hf_genret.training.objectives import Context, DsiObjective, NciObjective
from hf_genret.training.objectives.nci import divergence
from hf_genret.training.recipes import load_recipe

SIZES = [3, 4]
CODES = torch.tensor([[0, 1], [0, 2], [1, 0], [1, 3], [2, 2]])
ROWS = torch.tensor([0, 2])


class Given(torch.nn.Module):
    """Stands for a model whose logits are given numbers; each pass of the queries has its own."""

    def __init__(self) -> None:
        super().__init__()
        make = torch.Generator().manual_seed(4)
        sides = {"queries": (2, 2), "items": (1, 5)}  # passes, rows
        self.tables = {
            side: [[torch.randn(rows, size, generator=make) for size in SIZES] for _ in range(ways)]
            for side, (ways, rows) in sides.items()
        }
        self.calls = {"queries": 0, "items": 0}

    def _encoded(self, side: str, numbers: torch.Tensor) -> EncoderOutput:
        way = self.calls[side] % len(self.tables[side])
        self.calls[side] += 1
        return EncoderOutput(None, numbers, (side, way))

    def encode_query(self, queries):
        return self._encoded("queries", queries)

    def encode_items(self, items):
        return self._encoded("items", items)

    def path_logits(self, encoded, codes):
        del codes
        side, way = encoded.attention_mask
        return [table[encoded.pooler_output] for table in self.tables[side][way]]


def batch_of(indexed: list[int] | None = None) -> dict[str, Any]:
    batch: dict[str, Any] = {
        "query": {"queries": torch.arange(2)},
        "item": {"items": ROWS},
        "rows": ROWS,
        "sampled": {},
        "sampled_rows": {},
    }
    if indexed:
        rows = torch.tensor(indexed)
        batch["sampled"]["indexing"], batch["sampled_rows"]["indexing"] = {"items": rows}, rows
    return batch


def context() -> Context:
    return Context(CODES.clone(), 0, SIZES, [{int(row): 1.0} for row in ROWS])


def probabilities(table: list[torch.Tensor], row: int) -> list[list[float]]:
    """softmax of each level's logits of one row, in Python floats."""
    out = []
    for logits in table:
        powers = [math.exp(x) for x in logits[row].tolist()]
        out.append([power / sum(powers) for power in powers])
    return out


def surprise(table: list[torch.Tensor], row: int, document: int) -> float:
    """-log P of a document's id."""
    p = probabilities(table, row)
    return -sum(math.log(p[level][code]) for level, code in enumerate(CODES[document].tolist()))


def test_dsi_is_the_mean_over_documents_and_queries():
    """Two queries and three documents to index, one of them nobody's answer: five examples."""
    model, indexed = Given(), [4, 0, 3]
    terms = DsiObjective(context(), {"ratio": 1.5})(model, batch_of(indexed))
    queries, items = model.tables["queries"][0], model.tables["items"][0]
    asked = [surprise(queries, i, row) for i, row in enumerate(ROWS.tolist())]
    read = [surprise(items, row, row) for row in indexed]
    assert float(terms["retrieval"]) == pytest.approx(sum(asked) / 5, rel=1e-5)
    assert float(terms["indexing"]) == pytest.approx(sum(read) / 5, rel=1e-5)
    assert float(sum(terms.values())) == pytest.approx(np.mean(asked + read), rel=1e-5)


def test_dsi_without_indexing_is_retrieval_alone():
    """No document is drawn or read."""
    objective, rng = DsiObjective(context(), {"ratio": 0.0}), np.random.default_rng(0)
    assert objective.sample(ROWS.numpy(), rng) == {}
    terms = objective(Given(), batch_of())
    assert set(terms) == {"retrieval"}
    queries = Given().tables["queries"][0]
    wanted = np.mean([surprise(queries, i, row) for i, row in enumerate(ROWS.tolist())])
    assert float(terms["retrieval"]) == pytest.approx(wanted, rel=1e-5)


def test_dsi_indexes_all_documents():
    """As many a query as the ratio says, from the whole corpus and not from the batch."""
    objective, rng = DsiObjective(context(), {"ratio": 3.0}), np.random.default_rng(0)
    drawn = [objective.sample(ROWS.numpy(), rng)["indexing"] for _ in range(20)]
    assert all(len(rows) == 6 for rows in drawn)
    assert set(np.concatenate(drawn).tolist()) == {0, 1, 2, 3, 4}
    with pytest.raises(ConfigError, match="ratio is -1"):
        DsiObjective(context(), {"ratio": -1.0})


def test_nci_by_hand():
    """The mean of two passes, the documents', and half of both divergences, weighted."""
    model = Given()
    options = {"query": 2.0, "item": 0.25, "consistency": 0.5}
    terms = NciObjective(context(), options)(model, batch_of())
    first, second = model.tables["queries"]
    rows = ROWS.tolist()
    asked = [surprise(table, i, row) for table in (first, second) for i, row in enumerate(rows)]
    assert float(terms["query"]) == pytest.approx(2.0 * np.mean(asked), rel=1e-5)
    read = [surprise(model.tables["items"][0], row, row) for row in rows]
    assert float(terms["item"]) == pytest.approx(0.25 * np.mean(read), rel=1e-5)
    apart = 0.0
    for i in range(2):
        for p, q in zip(probabilities(first, i), probabilities(second, i), strict=True):
            apart += sum(
                a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True)
            )
    assert float(terms["consistency"]) == pytest.approx(0.5 * apart / 2 / 2, rel=1e-5)


def test_nci_without_consistency_reads_queries_once():
    """A weight of zero costs nothing."""
    model = Given()
    terms = NciObjective(context(), {"consistency": 0.0, "item": 0.0})(model, batch_of())
    assert set(terms) == {"query"} and model.calls == {"queries": 1, "items": 0}


def test_the_divergence_of_a_pass_with_itself_is_zero():
    """And of others above it, whichever comes first."""
    one, other = Given().tables["queries"]
    assert float(divergence(one, one)) == 0.0
    there, back = float(divergence(one, other)), float(divergence(other, one))
    assert there == pytest.approx(back) and there > 0


@pytest.mark.parametrize("dropout", [True, False])
def test_consistency_is_about_dropout(tiny, model_on, pairs_of, dropout):
    """Without dropout both passes say the same; with it they do not."""
    model, tokenizer = model_on(tiny, head_type="prefix_aware", decoder_dropout=0.3)
    model.train(dropout)
    data = pairs_of(tiny, model, tokenizer)
    codes = torch.stack([torch.randint(size, (60,)) for size in (4, 3)], dim=1)
    batch = {
        "query": data.train.batch(data.pair_query[:8]),
        "rows": torch.from_numpy(data.pair_row[:8]),
    }
    objective = NciObjective(Context(codes, 0, [4, 3], []), {"item": 0.0})
    with torch.no_grad():
        apart = float(objective(model, batch)["consistency"])
    assert (apart > 1e-8) == dropout


def test_all_parts_learn(tiny, model_on, pairs_of):
    """Gradients reach decoder, maps, code embeddings and matrices of prefix-aware heads."""
    model, tokenizer = model_on(tiny, head_type="prefix_aware")
    data = pairs_of(tiny, model, tokenizer)
    codes = torch.stack([torch.randint(size, (60,)) for size in (4, 3)], dim=1)
    batch = {
        "query": data.train.batch(data.pair_query[:8]),
        "item": data.items.batch(data.pair_row[:8]),
        "rows": torch.from_numpy(data.pair_row[:8]),
    }
    with torch.no_grad():
        model.heads.matrices.normal_(std=0.1)
    terms = NciObjective(Context(codes, 0, [4, 3], []), {})(model, batch)
    sum(terms.values()).backward()
    parts = dict(model.named_parameters())
    learning = {name for name, p in parts.items() if p.grad is not None and p.grad.any()}
    heads = ("matrices", "codes.weight", "mix.weight", "read.weight", "maps.0.bias", "maps.1.bias")
    assert {f"heads.{name}" for name in heads} | {"decoder.embedding.weight"} <= learning


@pytest.mark.parametrize("task", ["text", "sequential", "general"])
@pytest.mark.parametrize(
    ("recipe", "objective", "decoder", "heads"),
    [
        ("dsi", "dsi", "transformer", "plain"),
        ("nci", "nci", "transformer", "prefix_aware"),
        ("tiger", "cross_entropy", "tiger", "plain"),
    ],
)
def test_what_the_recipes_stand_for(recipe, objective, decoder, heads, task):
    """Objective, decoder, heads and a last code; encoder and ranker are the task's."""
    found, usual = load_recipe(recipe, task=task), load_recipe("fixed", task=task)
    final = next(stage for stage in found.stages if stage.name == "final")
    assert (final.objective, final.before) == (objective, {"ids": found.ids})
    assert found.model.get("decoder_type", "transformer") == decoder
    assert found.model["head_type"] == heads and found.position_code == 100
    assert found.stages[0] == usual.stages[0] and found.items == usual.items
    assert found.queries == usual.queries and found.encoder == usual.encoder

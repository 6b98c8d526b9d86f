"""ASI and ASI++: the terms together, what their gradients reach, and recipes that train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_genret.errors import ConfigError
from hf_genret.indexing.sinkhorn import sinkhorn
from hf_genret.modeling import EncoderOutput, GenRetConfig
from hf_genret.modeling.indexers_genret import INDEXERS
from hf_genret.training import api
from hf_genret.training.objectives import OBJECTIVES, Clock, Context
from hf_genret.training.objectives import asi_losses as losses
from hf_genret.training.objectives.asi import AsiObjective, AsiPlusObjective
from hf_genret.training.recipes import load_recipe, variants

SIZES = [3, 4]
BATCH, DIM = 4, 6
ROWS = torch.tensor([0, 2, 5, 2])  # the second and the last query want the same document
RELEVANT = [{0: 1.0, 2: 1.0}, {2: 1.0}, {5: 1.0}, {2: 1.0}]
SAME = np.array([[1, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]], dtype=bool)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def codes_of(log_p: list[Tensor]) -> Tensor:
    return torch.stack([level.argmax(-1) for level in log_p], dim=1)


def vectors(seed: int) -> Tensor:
    """Unit vectors."""
    drawn = torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=-1, keepdim=True)


class Model(torch.nn.Module):
    """Stands for a model: given vectors, an indexer, and a decoder that is a table a level.

    What the decoder says of a level depends on the code it read before, so that gradients can
    come through what it reads as well as through its targets.
    """

    def __init__(self, indexer: str = "mlp") -> None:
        super().__init__()
        self.q = torch.nn.Parameter(vectors(1))
        self.d = torch.nn.Parameter(vectors(2))
        config = GenRetConfig(vector_dim=DIM, codebook_sizes=SIZES, indexer_dropout=0.0)
        make = torch.Generator().manual_seed(3)
        self.indexer = INDEXERS[indexer](config)
        with torch.no_grad():
            for parameter in self.indexer.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(torch.randn(parameter.shape, generator=make))
        self.first = torch.nn.Parameter(torch.randn(DIM, SIZES[0], generator=make))
        self.second = torch.nn.Parameter(torch.randn(*SIZES, generator=make))

    def encode_query(self, rows: Tensor) -> EncoderOutput:
        return EncoderOutput(None, self.q[rows], None)

    def encode_items(self, rows: Tensor) -> EncoderOutput:
        return EncoderOutput(None, self.d[rows], None)

    def index_logits(self, encoded: EncoderOutput, codes: Tensor) -> Tensor:
        return self.indexer.level_logits(codes.shape[1], encoded.pooler_output, codes, None)

    def path_logits(self, encoded: EncoderOutput, codes: Tensor, read: Any = None) -> list[Tensor]:
        before = torch.eye(SIZES[0])[codes[:, 0]] if read is None else read[0]
        return [encoded.pooler_output @ self.first, before @ self.second]


def batch_of() -> dict[str, Any]:
    rows = {"rows": torch.arange(BATCH)}
    return {"query": rows, "item": rows, "queries": torch.arange(BATCH), "rows": ROWS}


def context() -> Context:
    return Context(torch.full((6, 2), -1), 0, SIZES, RELEVANT)


def asi(**options: Any) -> AsiObjective:
    off = dict.fromkeys(("contrastive", "generation", "reverse", "quantization"), 0.0)
    return AsiObjective(context(), {**off, **options})


def plus(**options: Any) -> AsiPlusObjective:
    off = ("contrastive", "generation", "quantization", "density", "bottleneck", "information")
    return AsiPlusObjective(context(), {**dict.fromkeys(off, 0.0), **options})


def moved(loss: Tensor, *parameters: Any) -> list[bool]:
    """Which parameters a loss has a gradient on."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [grad is not None and float(grad.abs().sum()) > 1e-9 for grad in found]


# ---- the objectives -----------------------------------------------------------------------


@pytest.mark.parametrize("through", [1.0, 0.3, 0.0])
def test_generation_reaches_the_indexer_through_straight_through_codes(through):
    """By targets and by what the decoder reads; with constant codes only the decoder learns."""
    model = Model()
    loss = asi(generation=1.0, through=through)(model, batch_of())["generation"]
    first, second = (model.indexer.levels[i][0].weight for i in (0, 1))
    assert moved(loss, first, second, model.d) == [through > 0] * 3
    assert moved(loss, model.first, model.second, model.q) == [True] * 3


def test_straight_through_and_constant_codes_cost_the_same():
    """Forward they are one-hot either way."""
    model = Model()
    both = [
        float(asi(generation=1.0, through=way)(model, batch_of())["generation"])
        for way in (1.0, 0.3, 0.0)
    ]
    codes = codes_of([model.indexer.level_logits(i, model.d, None, None) for i in (0, 1)])
    logits = model.path_logits(model.encode_query(torch.arange(BATCH)), codes)
    expected = sum(
        float(torch.nn.functional.cross_entropy(level, codes[:, i]))
        for i, level in enumerate(logits)
    )
    assert both == [pytest.approx(expected, rel=1e-5)] * 3


def test_what_the_decoder_reads_carries_gradients_too():
    """The second level's loss reaches the first level's indexer."""
    model = Model()
    objective = asi(generation=1.0)
    pairs = objective._pairs(model, batch_of())
    y = [p.detach() for p in pairs.item_ids.p]
    read = [pairs.item_ids.p[0], y[1]]
    logits = model.path_logits(pairs.query, pairs.item_ids.codes, read=read)
    assert moved(losses.generation(logits, y), model.indexer.levels[0][0].weight) == [True]


def test_the_reverse_term_by_hand():
    """Every query's id against the codes of documents that are irrelevant to it."""
    model = Model()
    objective = asi(reverse=2.0)
    found = objective(model, batch_of())
    assert set(found) == {"reverse"}
    pairs = objective._pairs(model, batch_of())
    away = array(losses.repulsion(pairs.query_ids.log_p, pairs.item_ids.codes))
    assert float(found["reverse"]) == pytest.approx(2 * away[~SAME].mean(), rel=1e-5)
    assert moved(found["reverse"], model.q, model.d) == [True, False]


def test_pairs_that_share_a_positive_are_left_alone():
    """Two documents of one query, two queries of one document: neither pair is apart."""
    pairs = asi()._pairs(Model(), batch_of())
    assert (pairs.same.numpy() == SAME).all()
    shares = [bool(set(a) & set(b)) for a in RELEVANT for b in RELEVANT]
    assert (pairs.queries_apart.numpy() == ~np.reshape(shares, (4, 4))).all()
    rows = ROWS.tolist()
    together = [any(a in r and b in r for r in RELEVANT) for a in rows for b in rows]
    assert (pairs.items_apart.numpy() == ~np.reshape(together, (4, 4))).all()


def test_alpha_goes_with_the_number_of_levels():
    """3 at four levels, 1.5 at two."""
    model = Model()
    found = asi(contrastive=1.0)(model, batch_of())["contrastive"]
    pairs = asi()._pairs(model, batch_of())
    expected = losses.contrastive_margin(pairs.query_ids.p, pairs.item_ids.p, pairs.same, 1.5)
    assert found.item() == pytest.approx(float(expected))


def test_terms_and_lambda_of_the_successor():
    """Three criteria times lambda at the clock's epoch; ASI's reverse term is off."""
    model = Model()
    objective = AsiPlusObjective(context(), {})
    totals = {}
    for epoch in (0.0, 1.0):
        objective.clock = Clock(0, 10, epoch)
        totals[epoch] = {name: float(v) for name, v in objective(model, batch_of()).items()}
    criteria = {"density", "bottleneck", "information"}
    assert set(totals[0.0]) == {"contrastive", "generation", *criteria}
    for name in totals[0.0]:
        ratio = 25 if name in criteria else 1
        assert totals[1.0][name] == pytest.approx(ratio * totals[0.0][name], rel=1e-4)
    assert float(totals[1.0]["information"]) == pytest.approx(
        0.25 * 0.01 * float(losses.information(model.d, 0.1)), rel=1e-4
    )
    pairs = objective._pairs(model, batch_of())
    crowded = losses.crowding(model.d, pairs.items_apart)
    crowded = crowded + losses.crowding(model.q, pairs.queries_apart)
    nce = losses.info_nce(model.q, model.d, pairs.same, 0.05)
    assert totals[1.0]["bottleneck"] == pytest.approx(0.25 * float(nce + 0.05 * crowded), rel=1e-4)


@pytest.mark.parametrize("criterion", ["density", "bottleneck", "information"])
def test_each_criterion_can_be_left_out(criterion):
    """A weight of 0 removes the term and nothing else."""
    objective = AsiPlusObjective(context(), {criterion: 0.0})
    everything = AsiPlusObjective(context(), {})(Model(), batch_of())
    assert set(everything) - set(objective(Model(), batch_of())) == {criterion}


def test_what_the_criteria_reach():
    """Density the indexer; bottleneck and information the encoder's vectors alone."""
    model = Model()
    weight = model.indexer.levels[0][0].weight
    for options, reached in (
        ({"density": 1.0}, [True, True]),
        ({"density": 1.0, "density_reading": "literal"}, [True, True]),
        ({"bottleneck": 1.0}, [False, True]),
        ({"information": 1.0}, [False, True]),
    ):
        (loss,) = plus(**options)(model, batch_of()).values()
        assert moved(loss, weight, model.d) == reached


def test_information_of_queries_too():
    """The mean of both sides; of documents alone by default."""
    model = Model()
    sides = [losses.information(x, 0.1).item() for x in (model.d, model.q)]
    for options, expected in (({}, sides[0]), ({"of_queries": True}, np.mean(sides))):
        objective = plus(information=1.0, ramp_start=1.0, ramp_end=1.0, **options)
        loss = objective(model, batch_of())["information"]
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert moved(loss, model.d, model.q) == [True, bool(options)]


@pytest.mark.parametrize("indexer", ["pq", "rq"])
def test_codebooks_give_sinkhorn_s_probabilities(indexer):
    """Distances to the centres, queries and documents balanced together over a level's codes."""
    model = Model(indexer)
    objective = asi(epsilon=0.5, iterations=50)
    pairs = objective._pairs(model, batch_of())
    both = torch.cat([model.q, model.d])
    codes = torch.cat([pairs.query_ids.codes, pairs.item_ids.codes])
    for level, size in enumerate(SIZES):
        target = model.indexer.target(level, both, codes[:, :level])
        distance = torch.cdist(target, model.indexer.codebooks[level]).square()
        expected = sinkhorn(-distance, epsilon=0.5, iterations=50)
        found = torch.cat([pairs.query_ids.p[level], pairs.item_ids.p[level]])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
        np.testing.assert_allclose(array(found).sum(0), 2 * BATCH / size, atol=1e-3)
        assert (found.argmax(-1) == codes[:, level]).all()
    plain = asi(epsilon=0.0)._pairs(model, batch_of()).item_ids.log_p[0]
    logits = model.indexer.level_logits(0, model.d, torch.zeros(BATCH, 0).long(), None)
    torch.testing.assert_close(plain, logits.log_softmax(-1))


@pytest.mark.parametrize("indexer", ["pq", "rq", "mlp"])
def test_quantization_moves_codebooks_and_vectors(indexer):
    """|e - e^q|^2 of documents by their codes; an MLP has no codebooks and no such term."""
    model = Model(indexer)
    objective = asi(quantization=3.0)
    found = objective(model, batch_of())
    if indexer == "mlp":
        assert found == {}
        return
    codes = objective._pairs(model, batch_of()).item_ids.codes
    described = array(model.indexer.reconstruct(codes))
    expected = 3 * ((array(model.d) - described) ** 2).sum(1).mean()
    assert float(found["quantization"]) == pytest.approx(expected, rel=1e-4)
    assert moved(found["quantization"], model.d, *model.indexer.codebooks) == [True] * 3


def test_balanced_probabilities_of_other_indexers():
    """Sinkhorn on the MLP's logits where it is asked for; a plain softmax else."""
    model = Model()
    logits = [model.indexer.level_logits(0, x, None, None) for x in (model.q, model.d)]
    balanced = sinkhorn(torch.cat(logits), epsilon=0.3, iterations=100)[BATCH:]
    for options, expected in (({"balance": 0.3}, balanced), ({}, logits[1].softmax(-1))):
        found = asi(**options)._pairs(model, batch_of()).item_ids.p[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_part_of_the_gradient_goes_through():
    """A share of L_CE's gradient on the indexer, all of it on the decoder."""
    model = Model()
    weights = model.indexer.levels[1][-1].weight, model.second
    grads = [
        torch.autograd.grad(
            asi(generation=1.0, through=t)(model, batch_of())["generation"], weights
        )
        for t in (1.0, 0.3)
    ]
    torch.testing.assert_close(grads[1][0], 0.3 * grads[0][0])
    torch.testing.assert_close(grads[1][1], grads[0][1])


@pytest.mark.parametrize("indexer", ["pq", "rq"])
def test_the_margin_reaches_codebooks_through_sinkhorn(indexer):
    """The probabilities carry gradients through the scaling."""
    model = Model(indexer)
    loss = asi(contrastive=1.0, epsilon=0.5)(model, batch_of())["contrastive"]
    assert moved(loss, *model.indexer.codebooks, model.d) == [True] * 3


def test_collapse_shows_in_the_use_of_codes():
    """An indexer that says the same of everything uses one code a level."""
    model = Model()
    objective = AsiPlusObjective(context(), {})
    objective(model, batch_of())
    assert {level: int(n.sum()) for level, n in objective.use.items()} == {1: 4, 2: 4}
    with torch.no_grad():
        for level in model.indexer.levels:
            level[-1].weight.zero_()
            level[-1].bias.copy_(torch.arange(len(level[-1].bias)).float())
    objective.use.clear()
    objective(model, batch_of())
    assert [n.tolist() for n in objective.use.values()] == [[0, 0, 4], [0, 0, 0, 4]]


def test_wrong_settings_are_a_sentence():
    """The known ones are listed."""
    assert OBJECTIVES["asi"] is AsiObjective and OBJECTIVES["asi++"] is AsiPlusObjective
    with pytest.raises(ConfigError, match=r"form='revers' is unknown; known: reverse, bounded"):
        asi(form="revers")
    with pytest.raises(ConfigError, match=r"density_reading='near' is unknown; known: close, far"):
        plus(density_reading="near")
    with pytest.raises(ConfigError, match="knows no setting densty"):
        plus(densty=1.0)


# ---- recipes ------------------------------------------------------------------------------

SHORT = [
    "bag={vocab_size: 500, dim: 32}",
    "items={dim: 32, feature_dim: 16, layers: 1}",
    "model.decoder_dim=32",
    "queries.pseudo=2",
    "search.beam_weights=[0.0]",
    "stages.final.max_steps=12",
    "stages.final.batch_size=64",
    "stages.final.evaluations=2",
    "stages.joint.max_steps=8",
    "stages.joint.batch_size=64",
    "stages.indexer.max_steps=40",
    "stages.indexer.batch_size=64",
]


@pytest.mark.parametrize("recipe", ["asi", "asi++:pq", "asi++:unstarted", "asi++:argmax"])
def test_recipes_train_on_texts(tmp_path, text_folder, recipe):
    """200 documents, a few steps: beyond random, buckets equal where they are promised."""
    settings = [*SHORT, "controls=[]", "stages.encoder.max_steps=8", "stages.ranker.max_steps=4"]
    report = api.train(text_folder, recipe, tmp_path / "out", settings)
    joint = next(stage for stage in report["stages"] if stage["stage"] == "joint")
    assert {"loss_contrastive", "loss_generation"} <= set(joint["history"][-2])
    found = api.evaluate_checkpoint(tmp_path / "out", text_folder, systems=["generative", "random"])
    ndcg = {name: s["metrics"]["ndcg@10"]["mean"] for name, s in found["systems"].items()}
    assert ndcg["generative"] > 2 * ndcg["random"]
    used = [level["used"] / level["codes"] for level in found["index"]["generative"]["levels"]]
    if recipe == "asi++:argmax":
        assert joint["displaced_1"] == joint["displaced_2"] == 0.0
    else:
        assert used == [1.0, 1.0]


@pytest.mark.parametrize("recipe", ["asi++", "asi++:rq"])
def test_recipes_train_on_histories(tmp_path, sequence_folder, recipe):
    """The same with items and histories; the encoder stays as the first stage left it."""
    settings = [*SHORT, "controls=[]", "stages.ranker.max_steps=12", "model.codebook_sizes=[8, 8]"]
    report = api.train(sequence_folder, recipe, tmp_path / "out", settings)
    assert "joint" in [stage["stage"] for stage in report["stages"]]
    systems = ["generative", "random"]
    found = api.evaluate_checkpoint(tmp_path / "out", sequence_folder, systems=systems)
    ndcg = {name: s["metrics"]["ndcg@10"]["mean"] for name, s in found["systems"].items()}
    assert ndcg["generative"] > 2 * ndcg["random"]


def test_the_second_recipe_is_the_first_with_its_criteria():
    """The same stages and model; every variant of ASI is one of ASI++ as well."""
    first, second = load_recipe("asi"), load_recipe("asi++")
    assert [stage.name for stage in first.stages] == [stage.name for stage in second.stages]
    assert first.model == second.model and first.model["indexer"] == "mlp"
    objectives = [{s.name: s.objective for s in recipe.stages} for recipe in (first, second)]
    assert objectives[0].pop("joint") == "asi" and objectives[1].pop("joint") == "asi++"
    assert objectives[0] == objectives[1]
    options = {"balance": 0.3, "of_queries": True}
    assert next(s for s in second.stages if s.name == "joint").options == options
    assert set(variants("asi")) < set(variants("asi++"))
    criteria = {"density": "no_density", "bottleneck": "no_bottleneck"}
    for option, variant in {**criteria, "information": "no_information"}.items():
        joint = next(s for s in load_recipe(f"asi++:{variant}").stages if s.name == "joint")
        assert joint.options == {**options, option: 0.0}

"""ASI and ASI++: every term in plain NumPy, what it moves, and recipes that train."""

from __future__ import annotations

import math
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


def levels(seed: int, rows: int = BATCH) -> list[Tensor]:
    """Log-probabilities of ids, leaves of a graph."""
    make = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(rows, size, generator=make).log_softmax(-1) for size in SIZES]
    return [level.requires_grad_() for level in drawn]


def vectors(seed: int, rows: int = BATCH) -> Tensor:
    """Unit vectors, leaves of a graph."""
    drawn = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))
    return (drawn / drawn.norm(dim=-1, keepdim=True)).requires_grad_()


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def by_hand_distance(a: list[np.ndarray], b: list[np.ndarray], i: int, j: int) -> float:
    return sum(float(((x[i] - y[j]) ** 2).sum()) for x, y in zip(a, b, strict=True))


def codes_of(log_p: list[Tensor]) -> Tensor:
    return torch.stack([level.argmax(-1) for level in log_p], dim=1)


class Model(torch.nn.Module):
    """Stands for a model: given vectors, an indexer, and a decoder that is a table a level.

    What the decoder says of a level depends on the code it read before, so that gradients can
    come through what it reads as well as through its targets.
    """

    def __init__(self, indexer: str = "mlp") -> None:
        super().__init__()
        self.q = torch.nn.Parameter(vectors(1).detach())
        self.d = torch.nn.Parameter(vectors(2).detach())
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


# ---- the terms by hand --------------------------------------------------------------------


def test_contrastive_margin_by_hand():
    """Eq. 1: every query against every document that is irrelevant to it."""
    q, d = levels(1), levels(2)
    found = losses.contrastive_margin(
        [level.exp() for level in q], [level.exp() for level in d], torch.from_numpy(SAME), 1.5
    )
    p, r = [np.exp(array(level)) for level in q], [np.exp(array(level)) for level in d]
    terms = [
        max(0.0, by_hand_distance(p, r, i, i) - by_hand_distance(p, r, i, j) + 1.5)
        for i in range(BATCH)
        for j in range(BATCH)
        if not SAME[i, j]
    ]
    assert len(terms) == 8
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_distances_reach_twice_the_levels():
    """So that a margin of 3 at four levels means something."""
    one = [torch.eye(size) for size in (5, 5, 5, 5)]
    distance = losses.id_distances(one, one)
    torch.testing.assert_close(distance, 8 * (1 - torch.eye(5)))


def test_the_margin_is_met():
    """Far enough apart nothing is left to do; no pair to look at is no loss either."""
    eye = [torch.eye(3), torch.eye(3)]
    same = torch.eye(3, dtype=torch.bool)
    assert losses.contrastive_margin(eye, eye, same, 4.0).item() == 0.0
    assert losses.contrastive_margin(eye, eye, same, 4.5).item() == pytest.approx(0.5)
    assert losses.contrastive_margin(eye, eye, torch.ones_like(same), 9.0).item() == 0.0


def test_generation_by_hand():
    """Eq. 2 with soft targets: the sum over levels of cross-entropies."""
    logits, targets = levels(4), [level.exp() for level in levels(5)]
    expected = 0.0
    for level, target in zip(logits, targets, strict=True):
        expected -= float((array(target) * array(level)).sum(-1).mean())
    assert losses.generation(logits, targets).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["reverse", "bounded"])
def test_repulsion_by_hand(form):
    """-1/(V-1) sum of the other codes' log p, or -log(1 - p), summed over levels."""
    log_p, codes = levels(6), torch.tensor([[0, 3], [2, 1], [2, 2]])
    found = array(losses.repulsion(log_p, codes, form))
    assert found.shape == (BATCH, 3)
    for a in range(BATCH):
        for b in range(3):
            expected = 0.0
            for level, size in enumerate(SIZES):
                row, code = array(log_p[level][a]), int(codes[b, level])
                others = [row[v] for v in range(size) if v != code]
                mass = sum(math.exp(x) for x in others)
                expected += -math.log(mass) if form == "bounded" else -np.mean(others)
            assert found[a, b] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weight", ["close", "far"])
def test_density_by_hand(weight):
    """Eq. 5: pairs weighted by how close, or how far, their ids are."""
    log_p = levels(7)
    codes, apart = codes_of(log_p), torch.from_numpy(~SAME & ~SAME.T)
    found = losses.density(log_p, codes, apart, "reverse", weight)
    p = [np.exp(array(level)) for level in log_p]
    away = array(losses.repulsion(log_p, codes))
    terms = []
    for i in range(BATCH):
        for j in range(BATCH):
            if apart[i, j]:
                share = by_hand_distance(p, p, i, j) / 4
                terms.append((share if weight == "far" else 1 - share) * away[i, j])
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_literal_density_by_hand():
    """Eq. 5 as printed: a product of two means."""
    log_p = levels(8)
    codes, apart = codes_of(log_p), ~torch.eye(BATCH, dtype=torch.bool)
    p = [np.exp(array(level)) for level in log_p]
    pairs = [(i, j) for i in range(BATCH) for j in range(BATCH) if i != j]
    share = np.mean([by_hand_distance(p, p, i, j) / 4 for i, j in pairs])
    cross = np.mean([-sum(array(log_p[k])[i, codes[j, k]] for k in (0, 1)) for i, j in pairs])
    found = losses.literal_density(log_p, codes, apart)
    assert found.item() == pytest.approx(share * cross, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_info_nce_by_hand(temperature):
    """The positive is among the candidates, other relevant documents are not."""
    q, d = vectors(1), vectors(2)
    scores = np.exp(array(q) @ array(d).T / temperature)
    expected = []
    for i in range(BATCH):
        against = [scores[i, j] for j in range(BATCH) if not SAME[i, j]]
        expected.append(-math.log(scores[i, i] / (scores[i, i] + sum(against))))
    found = losses.info_nce(q, d, torch.from_numpy(SAME), temperature)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_crowding_by_hand():
    """1 / (D + .01) over the pairs that are asked for; duplicates do not blow it up."""
    d = torch.cat([vectors(1, 3), vectors(1, 3)[:1]]).detach().requires_grad_()
    apart = ~torch.eye(4, dtype=torch.bool)
    x = array(d)
    terms = [1 / (((x[i] - x[j]) ** 2).sum() + 0.01) for i in range(4) for j in range(4) if i != j]
    found = losses.crowding(d, apart)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-4)
    assert torch.isfinite(torch.autograd.grad(found, d)[0]).all()
    assert losses.crowding(d, torch.zeros_like(apart)).item() == 0.0


def test_information_by_hand():
    """Eq. 8 and 9 between normal densities, coordinate by coordinate."""
    x, sigma = array(vectors(3)), 0.3
    mean, spread = x.mean(0), x.std(0)
    terms = np.log(spread / sigma) + (sigma**2 + (x - mean) ** 2) / (2 * spread**2) - 0.5
    found = losses.information(vectors(3), sigma)
    assert found.item() == pytest.approx(terms.sum(1).mean(), rel=1e-3)


def test_quantization_by_hand():
    """The squared error of a row, averaged over rows."""
    a, b = vectors(1), vectors(2)
    expected = ((array(a) - array(b)) ** 2).sum(1).mean()
    assert losses.quantization(a, b).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.01), (0.5, 0.13), (1, 0.25), (2.7, 0.25)])
def test_lambda_rises_over_the_first_epoch(epoch, expected):
    """From .01 to .25, then it stays."""
    assert losses.ramp(epoch, 0.01, 0.25) == pytest.approx(expected)
    assert losses.ramp(epoch, 0.01, 0.25, length=0) == 0.25


# ---- what the terms move ------------------------------------------------------------------


def after(loss_of: Any, start: list[Tensor], steps: int = 60, rate: float = 0.2) -> list[Tensor]:
    """Ids after some steps of gradient descent on their logits."""
    logits = [level.detach().clone().requires_grad_() for level in start]
    for _ in range(steps):
        loss = loss_of([level.log_softmax(-1) for level in logits])
        for level, grad in zip(logits, torch.autograd.grad(loss, logits), strict=True):
            level.data -= rate * grad
    return [level.softmax(-1) for level in logits]


@pytest.mark.parametrize(
    ("reading", "parts"), [("reverse", True), ("bounded", True), ("literal", False)]
)
def test_density_parts_ids_and_the_printed_sign_pulls_them_together(reading, parts):
    """From ids that lie close: the recommended readings part them, Eq. 5 as printed does not."""
    base = torch.randn(1, SIZES[0]), torch.randn(1, SIZES[1])
    start = [level + 0.3 * torch.randn(BATCH, level.shape[1]) for level in base]
    apart = ~torch.eye(BATCH, dtype=torch.bool)

    def loss(log_p: list[Tensor]) -> Tensor:
        if reading == "literal":
            return losses.literal_density(log_p, codes_of(log_p), apart)
        return losses.density(log_p, codes_of(log_p), apart, reading)

    def shared(p: list[Tensor]) -> float:
        """Probability that two ids agree, the mean over pairs and levels."""
        agree = [level @ level.T for level in p]
        return torch.stack(agree)[:, apart].mean().item()

    before, end = [level.softmax(-1) for level in start], after(loss, start)
    assert (shared(end) < shared(before)) == parts
    distance = [float(losses.id_distances(p, p).mean()) for p in (before, end)]
    assert distance[1] < distance[0] if not parts else True


def test_the_weight_of_density_is_a_constant():
    """The gradient is that of the cross-entropies alone, weights held."""
    log_p = levels(7)
    codes, apart = codes_of(log_p), ~torch.eye(BATCH, dtype=torch.bool)
    found = torch.autograd.grad(losses.density(log_p, codes, apart), log_p)
    p = [level.detach().exp() for level in log_p]
    share = 1 - losses.id_distances(p, p) / 4
    expected = (share * losses.repulsion(log_p, codes))[apart].mean()
    torch.testing.assert_close(found, torch.autograd.grad(expected, log_p))


def test_information_leaves_a_batch_of_the_right_spread_alone():
    """Zero gradient at sigma; wider is drawn together, narrower spread; a shift costs nothing."""
    x = torch.randn(64, DIM)
    x = (x - x.mean(0)) / x.std(0, unbiased=False)
    for scale, sign in ((0.1, 0), (0.3, 1), (0.05, -1)):
        rows = (scale * x).requires_grad_()
        (grad,) = torch.autograd.grad(losses.information(rows, 0.1), rows)
        outward = float((grad * rows).sum())
        assert float(grad.sum(0).abs().max()) < 1e-4
        if sign:
            assert outward * sign > 0.1
        else:
            assert float(grad.abs().max()) < 1e-3


def test_the_margin_draws_pairs_together_and_others_apart():
    """D of the pair falls, D of the irrelevant grows."""
    item = [level.detach() for level in levels(2)]
    same = torch.eye(BATCH, dtype=torch.bool)

    def loss(log_p: list[Tensor]) -> Tensor:
        return losses.contrastive_margin(
            [level.exp() for level in log_p], [level.exp() for level in item], same, 1.5
        )

    start = levels(1)
    distance = [
        losses.id_distances(p, [level.exp() for level in item])
        for p in ([level.softmax(-1) for level in start], after(loss, start))
    ]
    gaps = [float(d[~same].mean() - d.diagonal().mean()) for d in distance]
    assert gaps[1] > gaps[0] + 0.2


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

"""GenRet: terms against plain NumPy, where gradients go, codes of a batch, batches by prefix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hf_genret.errors import ConfigError
from hf_genret.modeling import EncoderOutput, GenRetConfig
from hf_genret.modeling.heads_genret import ClusterHeads, CodebookHeads
from hf_genret.training.batches import PairBatches
from hf_genret.training.curriculum import RunState, Stage
from hf_genret.training.objectives import OBJECTIVES, Context, GenRetObjective
from hf_genret.training.stage_actions import perform
from hf_genret.training.workshop import Workshop

SIZES = [3, 4]
CODES = torch.tensor([[0, 1], [0, 2], [1, 0], [1, 3], [2, 2], [0, 2]])
ROWS = torch.tensor([0, 1, 3, 5, 1])  # prefixes 0 0 1 0 0; document 1 twice
SCALE = 1.3
TERMS = ["reconstruction", "commitment", "contrastive", "query"]


class Points(nn.Module):
    """Stands for a model: q_t and d_t are given numbers, codebooks and scale are real heads."""

    def __init__(self, similarity: str = "dot", heads: Any = CodebookHeads) -> None:
        super().__init__()
        make = torch.Generator().manual_seed(4)
        self.q = nn.ParameterList(torch.randn(5, 6, generator=make) for _ in SIZES)
        self.d = nn.ParameterList(torch.randn(6, 6, generator=make) for _ in SIZES)
        sizes: dict[str, Any] = {"vector_dim": 6, "codebook_sizes": SIZES}
        self.heads = heads(GenRetConfig(**sizes, head_similarity=similarity, head_scale=SCALE))
        for centre in self.heads.centres:
            nn.init.normal_(centre, generator=make)

    def encode_query(self, numbers: Tensor) -> EncoderOutput:
        return EncoderOutput(None, numbers, self.q)

    def encode_items(self, numbers: Tensor) -> EncoderOutput:
        return EncoderOutput(None, numbers, self.d)

    def path_points(self, encoded: EncoderOutput, prefix: Tensor) -> list[Tensor]:
        tables, numbers = encoded.attention_mask, encoded.pooler_output
        levels = min(prefix.shape[1] + 1, len(SIZES))
        return [tables[level][numbers] for level in range(levels)]


def batch_of(rows: Tensor = ROWS) -> dict[str, Any]:
    return {
        "query": {"numbers": torch.arange(len(rows))},
        "item": {"numbers": rows},
        "queries": torch.arange(len(rows)),
        "rows": rows,
        "sampled": {},
        "sampled_rows": {},
    }


def objective(level: int = 2, relevant: Any = None, **options: Any) -> GenRetObjective:
    relevant = relevant or [{int(row): 1.0} for row in ROWS]
    return GenRetObjective(Context(CODES.clone(), level, SIZES, relevant), options)


def numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def found(points: np.ndarray, documents: np.ndarray, candidates: list[list[int]]) -> float:
    """Mean of -log exp(s z.d) / sum over candidates, term by term."""
    total = 0.0
    for i, others in enumerate(candidates):
        score = {j: SCALE * float(points[i] @ documents[j]) for j in {i, *others}}
        total += math.log(sum(math.exp(value) for value in score.values())) - score[i]
    return total / len(points)


def cross_entropy(points: np.ndarray, centres: np.ndarray, codes: np.ndarray) -> float:
    p = log_softmax(SCALE * points @ centres.T)
    return -float(np.mean(p[np.arange(len(codes)), codes]))


def parts(model: Points) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    return (
        [numpy(table) for table in model.q],
        [numpy(table)[ROWS.numpy()] for table in model.d],
        [numpy(centre) for centre in model.heads.centres],
    )


# Document 1 stands in places 1 and 4; places 0, 1, 3 and 4 share a prefix, place 2 is alone.
SAME_PREFIX = [[1, 3, 4], [0, 3], [], [0, 1, 4], [0, 3]]
OTHER_DOCUMENTS = [[1, 2, 3, 4], [0, 2, 3], [0, 1, 3, 4], [0, 1, 2, 4], [0, 2, 3]]


# ---- terms --------------------------------------------------------------------------------


def test_step_two_by_hand():
    """Eq. 8 to 10 at T = 2: candidates of one prefix, cross-entropies over both steps."""
    model = Points()
    weights = {"reconstruction": 2.0, "commitment": 0.5, "contrastive": 0.3, "query": 3.0}
    with torch.no_grad():
        terms = objective(reassignment="none", **weights)(model, batch_of())
    q, d, centres = parts(model)
    codes = (d[1] @ centres[1].T).argmax(1)
    first = CODES[ROWS, 0].numpy()
    expected = {
        "reconstruction": found(centres[1][codes], d[1], SAME_PREFIX),
        "commitment": cross_entropy(d[1], centres[1], codes)
        + cross_entropy(d[0], centres[0], first),
        "contrastive": found(q[1], d[1], OTHER_DOCUMENTS),
        "query": cross_entropy(q[1], centres[1], codes) + cross_entropy(q[0], centres[0], first),
    }
    assert set(terms) == set(TERMS)
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(weights[name] * value, rel=1e-5)


def test_a_codebook_below_each_prefix_by_hand():
    """With cluster heads E_T is the prefix's own; the codebooks before it stay."""
    model = Points(heads=ClusterHeads)
    terms = objective(reassignment="none")(model, batch_of())
    _, d, centres = parts(model)
    first = CODES[ROWS, 0].numpy()
    own = centres[1].reshape(3, 4, 6)[first]  # [B, K, D]
    scores = SCALE * np.einsum("bd,bkd->bk", d[1], own)
    codes = scores.argmax(1)
    commitment = -np.mean(log_softmax(scores)[np.arange(5), codes])
    commitment += cross_entropy(d[0], centres[0], first)
    assert float(terms["reconstruction"].detach()) == pytest.approx(
        found(own[np.arange(5), codes], d[1], SAME_PREFIX), rel=1e-5
    )
    assert float(terms["commitment"].detach()) == pytest.approx(commitment, rel=1e-5)
    sum(terms.values()).backward()
    assert model.heads.centres[0].grad is None
    learns = model.heads.centres[1].grad.view(3, 4, 6).abs().sum((1, 2)) > 0
    assert learns.tolist() == [True, True, False]  # nobody in the batch starts with code 2


def test_step_one_by_hand():
    """At T = 1 all documents of the batch are candidates and there is nothing earlier."""
    model = Points()
    with torch.no_grad():
        terms = objective(1, reassignment="none")(model, batch_of())
    q, d, centres = parts(model)
    codes = (d[0] @ centres[0].T).argmax(1)
    assert float(terms["reconstruction"]) == pytest.approx(
        found(centres[0][codes], d[0], OTHER_DOCUMENTS), rel=1e-5
    )
    assert float(terms["commitment"]) == pytest.approx(
        cross_entropy(d[0], centres[0], codes), rel=1e-5
    )
    assert float(terms["query"]) == pytest.approx(cross_entropy(q[0], centres[0], codes), rel=1e-5)


def test_the_warm_up_by_hand():
    """R reads d_T itself; step T, whose codebook comes later, has no cross-entropy."""
    model = Points()
    with torch.no_grad():
        terms = objective(warm_up=True, earlier=0.5)(model, batch_of())
    q, d, centres = parts(model)
    first = CODES[ROWS, 0].numpy()
    assert float(terms["reconstruction"]) == pytest.approx(found(d[1], d[1], SAME_PREFIX), rel=1e-5)
    for name, points in (("commitment", d), ("query", q)):
        expected = 0.5 * cross_entropy(points[0], centres[0], first)
        assert float(terms[name]) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        assert float(objective(1, warm_up=True)(model, batch_of())["commitment"]) == 0.0


def test_all_steps_at_once_by_hand():
    """Level 0: each step reads the codes just given, and every step's terms are summed."""
    model = Points()
    with torch.no_grad():
        terms = objective(0, reassignment="none")(model, batch_of())
    _, d, centres = parts(model)
    codes = [(d[t] @ centres[t].T).argmax(1) for t in (0, 1)]
    siblings = [
        [j for j in others if codes[0][j] == codes[0][i]]
        for i, others in enumerate(OTHER_DOCUMENTS)
    ]
    expected = found(centres[0][codes[0]], d[0], OTHER_DOCUMENTS)
    expected += found(centres[1][codes[1]], d[1], siblings)
    assert float(terms["reconstruction"]) == pytest.approx(expected, rel=1e-5)
    commitment = sum(cross_entropy(d[t], centres[t], codes[t]) for t in (0, 1))
    assert float(terms["commitment"]) == pytest.approx(commitment, rel=1e-5)


def test_cosine_heads_compare_directions():
    """The heads' similarity is that of all inner products."""
    model, long = Points("cosine"), Points("cosine")
    with torch.no_grad():
        for table in (*long.q, *long.d, *long.heads.centres):
            table.mul_(7.0)
    with torch.no_grad():
        here, there = (objective()(m, batch_of()) for m in (model, long))
    for name in TERMS:
        assert float(here[name]) == pytest.approx(float(there[name]), rel=1e-4)


def test_other_documents_of_a_query_are_no_negatives():
    """A document that is relevant to a query leaves the sum of Eq. 10."""
    model = Points()
    relevant = [{0: 1.0, 3: 1.0}, {1: 1.0}, {3: 1.0}, {5: 1.0}, {1: 1.0}]
    with torch.no_grad():
        terms = objective(relevant=relevant)(model, batch_of())
    q, d, _ = parts(model)
    expected = found(q[1], d[1], [[1, 3, 4], *OTHER_DOCUMENTS[1:]])
    assert float(terms["contrastive"]) == pytest.approx(expected, rel=1e-5)


def test_candidates_of_any_prefix():
    """Without `by_prefix` the whole batch competes and batches are not grouped."""
    model = Points()
    loose = objective(by_prefix=False, warm_up=True)
    _, d, _ = parts(model)
    assert loose.groups() is None
    with torch.no_grad():
        terms = loose(model, batch_of())
    expected = found(d[1], d[1], OTHER_DOCUMENTS)
    assert float(terms["reconstruction"]) == pytest.approx(expected, rel=1e-5)


# ---- gradients ----------------------------------------------------------------------------


def test_the_straight_through_gradient():
    """Eq. 8: dL/dd_T is dL/dz_T, and so is each chosen code's; candidates get none."""
    model = Points()
    make = objective(reassignment="none")
    make(model, batch_of())["reconstruction"].backward()
    _, d, centres = parts(model)
    codes = (d[1] @ centres[1].T).argmax(1)
    to_z = np.zeros_like(d[1])
    for i, others in enumerate(SAME_PREFIX):
        among = sorted({i, *others})
        p = np.exp(log_softmax(SCALE * d[1][among] @ centres[1][codes[i]]))
        to_z[i] = SCALE * (p @ d[1][among] - d[1][i]) / len(ROWS)
    to_documents, to_centres = np.zeros((6, 6)), np.zeros_like(centres[1])
    np.add.at(to_documents, ROWS.numpy(), to_z)
    np.add.at(to_centres, codes, to_z)
    assert np.allclose(model.d[1].grad.numpy(), to_documents, atol=1e-6)
    assert np.allclose(model.heads.centres[1].grad.numpy(), to_centres, atol=1e-6)
    assert model.d[0].grad is None and model.q[1].grad is None


def test_directions_do_not_grow():
    """With cosine heads the straight-through gradient turns d_T and never lengthens it."""
    model = Points("cosine")
    objective(reassignment="none")(model, batch_of())["reconstruction"].backward()
    gradient, d = model.d[1].grad, model.d[1].detach()
    assert gradient.abs().sum() > 0
    assert float((gradient * d).sum(-1).abs().max()) < 1e-5


def test_codes_are_constants():
    """The cross-entropies move points and codebook, not through the choice of the code."""
    model = Points()
    objective()(model, batch_of())["query"].backward()
    assert model.q[1].grad.abs().sum() > 0
    assert model.d[1].grad is None


@pytest.mark.parametrize("frozen", [True, False])
def test_earlier_codebooks_stay(tiny, model_on, pairs_of, frozen):
    """Of a whole model everything learns but, where frozen, the codebook before step T."""
    model, tokenizer = model_on(tiny, head_type="codebook", vector_dim=16)
    for centre in model.heads.centres:
        nn.init.normal_(centre)
    data = pairs_of(tiny, model, tokenizer)
    pairs = np.arange(12)
    rows = torch.from_numpy(data.pair_row[pairs])
    batch = {
        "query": data.train.batch(data.pair_query[pairs]),
        "item": data.items.batch(data.pair_row[pairs]),
        "queries": torch.from_numpy(data.pair_query[pairs]),
        "rows": rows,
    }
    codes = torch.stack([torch.arange(60) % 4, torch.full((60,), -1)], dim=1)
    context = Context(codes, 2, [4, 3], data.train.queries.relevant)
    terms = GenRetObjective(context, {"frozen": frozen})(model, batch)
    terms["reconstruction"].backward(retain_graph=True)
    assert model.encoder.query.embedding.weight.grad.abs().sum() > 0
    assert model.heads.centres[1].grad.abs().sum() > 0
    assert model.heads.residuals[1].weight.grad.abs().sum() > 0
    sum(terms.values()).backward()
    assert model.decoder.blocks[0].self_attention.value.weight.grad is not None
    assert model.heads.residuals[0].weight.grad.abs().sum() > 0
    assert (model.heads.centres[0].grad is None) == frozen
    assert model.heads.centres[0].requires_grad


# ---- codes --------------------------------------------------------------------------------


def collapsed() -> Points:
    """Every document is nearest to code 2 of step 2, by far."""
    model = Points()
    with torch.no_grad():
        away = torch.full((6,), 1.5)
        model.d[1].add_(away)
        model.heads.centres[1].copy_(0.2 * model.heads.centres[1])
        model.heads.centres[1][2] += away
    return model


def codes_in(model: Points, rows: Tensor = ROWS, **options: Any) -> tuple[list[int], Any]:
    made = objective(**options)
    return made._codes(model.heads, model.d[1][rows], CODES[rows, :1], rows).tolist(), made


@pytest.mark.parametrize("centred", [False, True])
def test_sinkhorn_spreads_a_collapsed_batch(centred):
    """Without it one code is all; with it all four are used, and the collapse is counted."""
    rows = torch.arange(6)
    codes, plain = codes_in(collapsed(), rows, reassignment="none")
    assert set(codes) == {2} and plain.use[2].tolist() == [0, 0, 6, 0]
    codes, made = codes_in(collapsed(), rows, centred=centred)
    assert len(set(codes)) >= 3
    assert made.use[2].tolist() == [0, 0, 6, 0]  # what argmax, and so the index, would say
    moved = np.mean([code != 2 for code in codes])
    assert made.figures() == {"moved_2": pytest.approx(moved)}


def test_a_document_has_one_code_in_a_batch():
    """However often it stands there, and however dropout moved it; it also counts once."""
    model = Points()
    made = objective()
    points = model.d[1][ROWS] + 3.0 * torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    codes = made._codes(model.heads, points, CODES[ROWS, :1], ROWS)
    assert codes[1] == codes[4]
    assert int(made.use[2].sum()) == 4


# ---- the start of a codebook ----------------------------------------------------------------


@pytest.mark.parametrize("head_type", ["codebook", "cluster"])
def test_a_codebook_starts_where_the_warm_up_brought_the_points(
    tiny, model_on, pairs_of, head_type
):
    """Clusters of d_T; cluster heads have one codebook below each prefix, and keep what moved."""
    model, tokenizer = model_on(tiny, head_type=head_type)
    data = pairs_of(tiny, model, tokenizer)
    state = RunState.fresh(60, 2)
    state.codes[:, 0] = torch.arange(60) % 4
    nn.init.normal_(model.heads.residuals[1].weight, std=0.5)
    shop = Workshop(model, data, state, Stage("level-2", "genret", ["heads"], level=2), 0)
    with torch.no_grad():
        model.eval()
        encoded = model.encode_items(**data.items.batch(np.arange(60)))
        points = nn.functional.normalize(model.path_points(encoded, state.codes[:, :1])[1], dim=-1)
    perform(shop, {"codebook": "balanced"})
    labels, centres = state.start_codes[:, 1], model.heads.centres[1]
    assert sorted(set(labels.tolist())) == [0, 1, 2]
    if head_type == "codebook":
        assert centres.shape == (3, 16)
        assert (state.start_codes[:, 0] == -1).all()
    else:
        node = state.codes[:, 0] * 3 + labels
        assert torch.bincount(node).tolist() == [5] * 12
        means = torch.stack([points[node == n].mean(0) for n in range(12)])
        torch.testing.assert_close(centres.detach(), nn.functional.normalize(means, dim=-1))
    assert model.heads.residuals[1].weight.abs().sum() > 0
    bounds = {"size_min": 0.5, "size_max": 2.0}
    if head_type == "codebook":
        perform(shop, {"codebook": bounds})
        assert torch.bincount(state.start_codes[:, 1]).min() >= 10
    else:
        with pytest.raises(ConfigError, match="one codebook a level"):
            perform(shop, {"codebook": bounds})


# ---- batches and settings -----------------------------------------------------------------


def test_batches_are_of_one_prefix():
    """Step 1 mixes everything; step 2 groups documents by their first code."""
    assert objective(1).groups() is None and objective(0).groups() is None
    groups = objective(2).groups()
    assert groups.tolist() == CODES[:, 0].tolist()
    rows = np.random.default_rng(0).integers(6, size=64)
    batches = list(PairBatches(np.ones(64), 8, 0, 0, groups[rows]))
    pure = [len(set(groups[rows[batch]])) == 1 for batch in batches]
    assert np.mean(pure) > 0.5


def test_codes_needed():
    """The prefix alone."""
    assert [GenRetObjective.codes_needed(level, 3) for level in (0, 1, 2, 3)] == [0, 0, 1, 2]


def test_wrong_settings():
    """One sentence each."""
    assert OBJECTIVES["genret"] is GenRetObjective
    with pytest.raises(ConfigError, match="reassignment='greedy' is unknown; known: sinkhorn"):
        objective(reassignment="greedy")
    with pytest.raises(ConfigError, match="warm-up needs the level"):
        objective(0, warm_up=True)
    with pytest.raises(ConfigError, match="knows no setting rec"):
        objective(rec=1.0)


def test_it_wants_heads_with_vectors(tiny, model_on):
    """Heads without points d_t have nothing to reconstruct from."""
    model, _ = model_on(tiny, head_type="plain")
    with pytest.raises(ConfigError, match="needs heads with vectors"):
        objective()(model, batch_of())

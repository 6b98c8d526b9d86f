"""DGI: the soft path and its five losses in plain NumPy, and what gradients reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.training.objectives import Clock, Context, DgiObjective
from hf_genret.training.objectives.dgi_losses import (
    contrastive_loss,
    diversity_loss,
    global_loss,
    local_loss,
    next_token_loss,
)

SIZES = [3, 4, 2]
DIM, B = 6, 5
ROWS = torch.tensor([0, 3, 1, 3, 2])
WEIGHTS = ("next_token", "reconstruction", "local", "contrast", "diversity")
STILL = {"noise": "none", "tau_start": 0.5, "tau_end": 0.5}


def small_model(**changes: Any) -> GenRetModel:
    """Codebooks at random, residual maps at zero: logits need no decoder to be written down."""
    settings: dict[str, Any] = {
        "query_encoder": {"type": "bag", "vocab_size": 9, "dim": DIM},
        "vector_dim": DIM,
        "normalize": False,
        "codebook_sizes": SIZES,
        "decoder_dim": 8,
        "decoder_heads": 2,
        "decoder_layers": 1,
        "decoder_dropout": 0.0,
        "head_type": "codebook",
        "head_scale": 4.0,
        "decoder_inputs": "codebooks",
        "indexer": "tied",
        "indexer_scale": 0,
    }
    torch.manual_seed(2)
    model = GenRetModel(GenRetConfig(**{**settings, **changes}))
    with torch.no_grad():
        for table in (*model.heads.centres, *getattr(model.indexer, "codebooks", [])):
            table.normal_()
    return model


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(6)
    queries = torch.randn(B, DIM, generator=make)
    documents = torch.randn(4, DIM, generator=make)[ROWS]  # document 3 stands in it twice
    return queries, documents


def batch_of(queries: torch.Tensor, documents: torch.Tensor) -> dict[str, Any]:
    return {
        "query": {"query_vectors": queries},
        "item": {"item_vectors": documents},
        "queries": torch.arange(B),
        "rows": ROWS,
        "sampled": {},
        "sampled_rows": {},
    }


def objective_of(relevant: list[dict[int, float]] | None = None, **options: Any) -> DgiObjective:
    known = relevant or [{int(row): 1.0} for row in ROWS]
    return DgiObjective(Context(torch.full((4, 3), -1), 0, SIZES, known), options)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def softmax(x: np.ndarray) -> np.ndarray:
    power = np.exp(x - x.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def cosines(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    out = np.empty((len(points), len(others)))
    for i, point in enumerate(points):
        for j, other in enumerate(others):
            out[i, j] = point @ other / np.sqrt((point @ point) * (other @ other))
    return out


def soft_path(z: np.ndarray, books: list[np.ndarray], scale: float, tau: float) -> dict[str, list]:
    """Eq. 6 to 8 without noise."""
    path: dict[str, list] = {"p": [], "r": [], "c": [], "soft": []}
    residual = z
    for book in books:
        s = scale * cosines(residual, book)
        p = softmax(s / tau)
        path["r"].append(residual)
        path["p"].append(p)
        path["c"].append(s.argmax(-1))
        path["soft"].append(p @ book)
        residual = residual - p @ book
    return path


# ---- the losses ---------------------------------------------------------------------------


def test_next_token_by_hand(rng):
    """Eq. 16: summed over levels, the mean over the batch."""
    logits = [rng.normal(size=(2, k)) for k in (3, 2)]
    codes = np.array([[2, 0], [1, 1]])
    wanted = 0.0
    for row in range(2):
        for level in range(2):
            wanted -= np.log(softmax(logits[level])[row, codes[row, level]]) / 2
    found = next_token_loss([torch.from_numpy(level) for level in logits], torch.from_numpy(codes))
    assert found.item() == pytest.approx(wanted)


def test_global_by_hand(rng):
    """Eq. 17: one minus the cosine."""
    z, described = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    wanted = np.mean([1 - cosines(z[i : i + 1], described[i : i + 1])[0, 0] for i in range(3)])
    found = global_loss(torch.from_numpy(z), torch.from_numpy(described))
    assert found.item() == pytest.approx(wanted)
    assert global_loss(torch.from_numpy(z), 3 * torch.from_numpy(z)).item() == pytest.approx(0.0)


def test_local_by_hand(rng):
    """Eq. 18: both terms have the same value; beta weighs the gradient that residuals get."""
    residuals = [torch.from_numpy(rng.normal(size=(3, 4))).requires_grad_() for _ in range(2)]
    chosen = [torch.from_numpy(rng.normal(size=(3, 4))).requires_grad_() for _ in range(2)]
    found = local_loss(residuals, chosen, 0.25)
    wanted = 0.0
    for r, e in zip(residuals, chosen, strict=True):
        difference = array(r) - array(e)
        wanted += 1.25 * sum(float(d @ d) for d in difference) / 3
    assert found.item() == pytest.approx(wanted)
    found.backward()
    for r, e in zip(residuals, chosen, strict=True):
        difference = array(r) - array(e)
        np.testing.assert_allclose(e.grad, -2 * difference / 3)
        np.testing.assert_allclose(r.grad, 0.25 * 2 * difference / 3)


def test_contrast_by_hand(rng):
    """Eq. 19: cosines over tau; documents that are as right as the own one are left out."""
    q, d = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    same = np.eye(3, dtype=bool)
    same[0, 2] = True
    wanted = 0.0
    for row in range(3):
        rest = [j for j in range(3) if j == row or not same[row, j]]
        logits = cosines(q[row : row + 1], d[rest])[0] / 0.07
        wanted -= np.log(softmax(logits)[rest.index(row)]) / 3
    found = contrastive_loss(*map(torch.from_numpy, (q, d, same)), 0.07)
    assert found.item() == pytest.approx(wanted)


def test_diversity_by_hand():
    """Eq. 20: least, minus log K a level, where every code is used alike; 0 where one is."""
    use = [torch.tensor([0.5, 0.25, 0.25]), torch.tensor([1.0, 0.0])]
    wanted = 0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25)
    assert diversity_loss(use, 1e-8).item() == pytest.approx(wanted, abs=1e-6)
    even = diversity_loss([torch.full((4,), 0.25)], 1e-8).item()
    assert even == pytest.approx(-np.log(4), abs=1e-6)


# ---- the objective ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_the_soft_path_by_hand(kind):
    """Scores of residuals along soft codes, level after level; hard codes are the greatest."""
    model = small_model(head_similarity=kind)
    z = vectors()[1]
    with torch.no_grad():
        path = objective_of(**STILL).quantize(model, z)
    books = [array(table) for table in model.heads.centres]
    residual, described = array(z), 0.0
    for level, book in enumerate(books):
        s = 4 * (cosines(residual, book) if kind == "cosine" else residual @ book.T)
        p = softmax(s / 0.5)
        np.testing.assert_allclose(path.probabilities[level], p, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(path.residuals[level], residual, rtol=1e-4, atol=1e-5)
        assert path.codes[level].tolist() == s.argmax(-1).tolist()
        np.testing.assert_allclose(path.chosen[level], book[s.argmax(-1)], rtol=1e-5)
        assert torch.equal(path.weights[level], path.probabilities[level])
        residual, described = residual - p @ book, described + p @ book
    np.testing.assert_allclose(path.described, described, rtol=1e-4, atol=1e-5)


def test_every_term_by_hand():
    """The query meets the codebooks at z_q minus the document's soft codes; weights multiply."""
    model = small_model()
    queries, documents = vectors()
    relevant = [{int(row): 1.0} for row in ROWS]
    relevant[0][2] = 1.0  # so the last document is no negative of the first query
    weights = dict(zip(WEIGHTS, (2.0, 0.5, 0.3, 1.5, 0.1), strict=True))
    objective = objective_of(relevant, **STILL, **weights, commitment=0.4)
    with torch.no_grad():
        terms = objective(model, batch_of(queries, documents))
    books = [array(table) for table in model.heads.centres]
    q, z = array(queries), array(documents)
    path = soft_path(z, books, 4.0, 0.5)
    wanted = dict.fromkeys(WEIGHTS, 0.0)
    point = q
    for level, book in enumerate(books):
        log_p = np.log(softmax(4 * cosines(point, book)))
        codes = path["c"][level]
        wanted["next_token"] -= log_p[np.arange(B), codes].mean()
        point = point - path["soft"][level]
        difference = path["r"][level] - book[codes]
        wanted["local"] += 1.4 * (difference**2).sum(-1).mean()
        mean = path["p"][level].mean(0)
        wanted["diversity"] += (mean * np.log(mean + 1e-8)).sum()
    described = sum(path["soft"])
    wanted["reconstruction"] = np.mean([1 - cosines(z, described)[i, i] for i in range(B)])
    similarities = cosines(q, z) / 0.07
    for i in range(B):
        wrong = [j for j in range(B) if j != i and int(ROWS[j]) in relevant[i]]
        logits = np.delete(similarities[i], wrong)
        own = i - sum(j < i for j in wrong)
        wanted["contrast"] -= np.log(softmax(logits)[own]) / B
    assert set(terms) == set(WEIGHTS)
    for name, value in terms.items():
        assert float(value) == pytest.approx(weights[name] * wanted[name], rel=1e-4), name


def test_the_decoder_reads_the_soft_codes():
    """Once its residual maps have learned, the logits are those of the path of soft codes."""
    model = small_model()
    with torch.no_grad():
        for change in model.heads.residuals:
            change.weight.normal_()
    queries, documents = vectors()
    objective = objective_of(**STILL)
    with torch.no_grad():
        path = objective.quantize(model, documents)
        found = objective(model, batch_of(queries, documents))["next_token"]
        encoded = model.encode_query(query_vectors=queries)
        soft = model.path_logits(encoded, path.weights[:2])
        hard = model.path_logits(encoded, torch.stack(path.codes[:2], 1))
    codes = torch.stack(path.codes, 1)
    assert float(found) == pytest.approx(float(next_token_loss(soft, codes)), rel=1e-5)
    assert float(found) != pytest.approx(float(next_token_loss(hard, codes)), rel=1e-3)


# ---- gradients ----------------------------------------------------------------------------


def gradients(
    estimator: str, term: str = "next_token", **changes: Any
) -> tuple[GenRetModel, torch.Tensor]:
    """The model after a term's backward, and the gradient at the documents' vectors."""
    model = small_model(**changes)
    queries, documents = vectors()
    documents.requires_grad_()
    objective = objective_of(estimator=estimator, noise="none")
    objective(model, batch_of(queries, documents))[term].backward()
    grad = documents.grad
    return model, torch.zeros_like(documents) if grad is None else grad


@pytest.mark.parametrize("estimator", ["soft", "hard_gumbel", "straight_through"])
def test_the_next_token_loss_reaches_document_and_quantizer(estimator):
    """Through what the decoder reads: the document's vector and an untied quantizer's codebooks."""
    model, at_documents = gradients(
        estimator, indexer="rq", indexer_similarity="cosine", indexer_scale=4.0
    )
    assert at_documents.abs().sum() > 0
    first, second, last = (table.grad for table in model.indexer.codebooks)
    assert first.abs().sum() > 0 and second.abs().sum() > 0
    assert last is None or not last.any()  # nothing reads the last code
    assert model.indexer.scale.grad.abs().sum() > 0


def test_no_gradient_passes_a_detached_choice():
    """Without the soft gradient the ids' quantizer and encoder do not learn from queries."""
    model, at_documents = gradients(
        "detached", indexer="rq", indexer_similarity="cosine", indexer_scale=4.0
    )
    assert not at_documents.any()
    assert all(table.grad is None for table in model.indexer.codebooks)
    assert model.indexer.scale.grad is None
    assert model.heads.centres[0].grad.abs().sum() > 0  # the decoder's own half learns


def test_a_tied_codebook_gets_what_quantizer_and_head_would_get():
    """One Parameter: its gradient is the sum of those of two equal ones."""
    tied, _ = gradients("soft")
    apart = small_model(indexer="rq", indexer_similarity="cosine", indexer_scale=4.0)
    with torch.no_grad():
        for mine, head, other in zip(
            apart.indexer.codebooks, apart.heads.centres, tied.heads.centres, strict=True
        ):
            mine.copy_(other)
            head.copy_(other)
    objective_of(noise="none")(apart, batch_of(*vectors()))["next_token"].backward()
    for mine, head, both in zip(
        apart.indexer.codebooks, apart.heads.centres, tied.heads.centres, strict=True
    ):
        total = head.grad if mine.grad is None else head.grad + mine.grad
        torch.testing.assert_close(both.grad, total, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("term", ["reconstruction", "local", "contrast", "diversity"])
def test_what_the_other_terms_move(term):
    """The document's vector in all of them; the codebooks in all but the contrast."""
    model, at_documents = gradients("soft", term)
    assert at_documents.abs().sum() > 0
    moved = [table.grad is not None and bool(table.grad.any()) for table in model.heads.centres]
    assert moved == [term != "contrast"] * 3


# ---- temperature, noise and what is logged --------------------------------------------------


def test_the_temperature_falls_exponentially():
    """1.0 to 0.1 for soft codes, 2 for drawn ones, or as a recipe says."""
    objective = objective_of()
    for step, wanted in ((0, 1.0), (50, 0.1**0.5), (100, 0.1)):
        objective.clock = Clock(step, 100)
        assert objective.tau == pytest.approx(wanted)
    drawn = objective_of(estimator="hard_gumbel")
    drawn.clock = Clock(70, 100)
    assert drawn.tau == 2.0
    own = objective_of(tau_start=3.0, tau_end=0.3)
    own.clock = Clock(100, 100)
    assert own.tau == pytest.approx(0.3)


def test_noise_moves_the_soft_codes_and_not_the_target():
    """Targets are the greatest logits along the path, whatever was drawn."""
    model, z = small_model(codebook_sizes=[3]), vectors()[1]
    objective = DgiObjective(Context(torch.full((4, 1), -1), 0, [3], [{}] * B), {})
    with torch.no_grad():
        one, other = objective.quantize(model, z), objective.quantize(model, z)
    assert not torch.equal(one.weights[0], other.weights[0])
    assert torch.equal(one.codes[0], other.codes[0])
    logits = 4 * cosines(array(z), array(model.heads.centres[0]))
    assert one.codes[0].tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("estimator", ["straight_through", "detached"])
def test_no_disagreement_where_the_soft_path_is_hard(estimator):
    """Both subtract the same codes."""
    objective = objective_of(estimator=estimator)
    objective(small_model(), batch_of(*vectors()))
    figures = objective.figures()
    assert [figures[f"disagreement_{level}"] for level in (1, 2, 3)] == [0.0, 0.0, 0.0]


def test_disagreement_by_hand():
    """A document between two codes keeps half of each as residual, and is indexed otherwise."""
    model = small_model(
        codebook_sizes=[2, 2],
        vector_dim=2,
        head_scale=1.0,
        query_encoder={"type": "bag", "vocab_size": 9, "dim": 2},
    )
    with torch.no_grad():
        model.heads.centres[0].copy_(torch.tensor([[1.0, 0.2], [1.0, -0.2]]))
        model.heads.centres[1].copy_(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    z = torch.tensor([[1.0, 0.01], [1.0, 3.0]])
    options = {"noise": "none", "tau_start": 1.0, "tau_end": 1.0}
    context = Context(torch.full((4, 2), -1), 0, [2, 2], [{0: 1.0}, {1: 1.0}])
    objective = DgiObjective(context, options)
    batch = batch_of(z, z) | {"queries": torch.arange(2), "rows": torch.arange(2)}
    objective(model, batch)
    # Soft: the first residual is (0, .01 - tiny), upward; hard: (0, .01 - .2), downward.
    figures = objective.figures()
    assert figures["disagreement_1"] == 0.0 and figures["disagreement_2"] == 0.5
    assert figures["tau"] == 1.0
    assert {level: use.tolist() for level, use in objective.use.items()} == {1: [2, 0], 2: [2, 0]}


def test_moving_averages_survive():
    """What state() gives, a fresh objective goes on with; a stranger's state is passed over."""
    objective = objective_of(estimator="hard_gumbel", noise="frqud", momentum=0.5)
    objective(small_model(), batch_of(*vectors()))
    fresh = objective_of(estimator="hard_gumbel", noise="frqud", momentum=0.5)
    fresh.restore({"hard": torch.zeros(3), **objective.state()})
    assert torch.equal(fresh.noise.use, objective.noise.use)
    assert not torch.equal(fresh.noise.use, torch.full((3,), 1 / 3))
    decaying = objective_of(noise="sdud")
    assert decaying.state() == {}
    loss = decaying(small_model(), batch_of(*vectors()))["next_token"]
    assert float(decaying.state()["mean_loss"]) == pytest.approx(loss.item() / 3, rel=1e-5)


# ---- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "options", "message"),
    [
        (2, {}, r"all levels at once \(level: 0\)"),
        (0, {"estimator": "hard"}, "estimator='hard' is unknown; known: soft, hard_gumbel"),
        (0, {"noise": "gauss"}, "noise='gauss' is unknown; known: none, gumbel, frqud, sdud"),
        (0, {"tau_end": -1.0}, "must be positive"),
        (0, {"beta": 1.0}, "knows no setting beta"),
    ],
)
def test_what_is_refused(level, options, message):
    """One sentence each."""
    with pytest.raises(ConfigError, match=message):
        DgiObjective(Context(torch.full((4, 3), -1), level, SIZES, []), options)


@pytest.mark.parametrize("indexer", ["decoder", "mlp", "pq"])
def test_a_residual_quantizer_is_needed(indexer):
    """One sentence names what fits."""
    with pytest.raises(ConfigError, match=r"residual quantizer .*tied or rq"):
        objective_of()(small_model(indexer=indexer, indexer_scale=1.0), batch_of(*vectors()))

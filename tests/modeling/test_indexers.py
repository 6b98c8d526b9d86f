"""Codebook heads, indexers beside the decoder, soft prefixes, one Parameter a codebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_genret.modeling import GenRetConfig, GenRetModel, beam_search
from hf_genret.modeling.heads_genret import look_up, similarity

DGI = {"head_type": "codebook", "decoder_inputs": "codebooks", "indexer": "tied"}
SHAPES = {
    "codebook": {"head_type": "codebook"},
    "reads codebooks": {"head_type": "codebook", "decoder_inputs": "codebooks"},
    "tied": DGI,
    "tied, the heads' scale": {**DGI, "indexer_scale": 0, "codebook_sizes": [2, 6, 3]},
    "tied, dot": {**DGI, "head_similarity": "dot"},
    "unit codes": {**DGI, "normalize_codes": True},
    "one level": {**DGI, "codebook_sizes": [9]},
    "many levels": {**DGI, "codebook_sizes": [3, 2, 1, 2, 3]},
    "rq beside it": {"head_type": "codebook", "indexer": "rq"},
}


def plain_similarity(kind: str, points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Pair by pair."""
    out = np.empty((len(points), len(centres)))
    for row, point in enumerate(points):
        for code, centre in enumerate(centres):
            if kind == "distance":
                out[row, code] = -((point - centre) ** 2).sum()
            else:
                out[row, code] = point @ centre
                if kind == "cosine":
                    out[row, code] /= np.linalg.norm(point) * np.linalg.norm(centre)
    return out


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt()


def soften(codes: Tensor, sizes: list[int]) -> list[Tensor]:
    """Random distributions, one a level, as many as codes has columns."""
    make = torch.Generator().manual_seed(8)
    return [
        torch.rand(len(codes), sizes[level], generator=make).softmax(-1)
        for level in range(codes.shape[1])
    ]


def one_hot(codes: Tensor, sizes: list[int]) -> list[Tensor]:
    return [
        torch.nn.functional.one_hot(codes[:, level], sizes[level]).float()
        for level in range(codes.shape[1])
    ]


# ---- one search, three ways ---------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_wide_beam_is_brute_force(make_indexed, exhaustive, best, text, shape):
    """Every id, in order, with its own log-probability."""
    model = make_indexed(**shape)
    truth = exhaustive(model, **text)
    with torch.no_grad():
        beams = beam_search(model, model.encode_query(**text), len(truth) + 2)
    for row in range(3):
        found = [tuple(c) for c in beams.codes[row][beams.leaf[row] >= 0].tolist()]
        assert found == best(truth, row, len(truth))
        wanted = torch.stack([truth[path][row] for path in found])
        torch.testing.assert_close(beams.scores[row][: len(found)], wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_loop_equals_generate(make_indexed, text, shape):
    """Same ids and scores, although generate() feeds one code at a time to a cache."""
    model = make_indexed(**shape)
    with torch.no_grad():
        ours = beam_search(model, model.encode_query(**text), 5)
    theirs = model.generate(
        **text,
        num_beams=5,
        num_return_sequences=5,
        return_dict_in_generate=True,
        output_scores=True,
    )
    real = ours.leaf >= 0
    width = real.shape[1]
    tokens = torch.where(real[..., None], ours.codes + torch.tensor(model.config.level_offsets), 0)
    assert torch.equal(theirs.sequences.view(3, 5, -1)[:, :width, 1:], tokens)
    scores = theirs.sequences_scores.view(3, 5)[:, :width]
    torch.testing.assert_close(scores[real], ours.scores[real], atol=1e-4, rtol=0)


# ---- codebook heads -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_a_new_model_is_a_residual_quantizer(kind):
    """logit = scale * sim(z - codes so far, code): residual maps start at zero."""
    config = GenRetConfig(
        query_encoder={"type": "bag", "vocab_size": 9, "dim": 6},
        vector_dim=6,
        codebook_sizes=[3, 4],
        decoder_dim=8,
        head_type="codebook",
        head_similarity=kind,
        head_scale=30.0,
    )
    model = GenRetModel(config).eval()
    for level, centres in enumerate(model.heads.centres):
        model.heads.start(level, torch.randn_like(centres))
    with torch.no_grad():
        encoded = model.encode_query(input_ids=torch.tensor([[1, 2], [3, 4]]))
        codes = torch.tensor([[2], [0]])
        first, second = model.path_logits(encoded, codes)
    z = encoded.pooler_output.double().numpy()
    tables = [centres.detach().double().numpy() for centres in model.heads.centres]
    np.testing.assert_allclose(first, 30 * plain_similarity(kind, z, tables[0]), rtol=1e-4)
    left = z - tables[0][codes[:, 0]]
    np.testing.assert_allclose(second, 30 * plain_similarity(kind, left, tables[1]), rtol=1e-4)


def test_unit_codes_leave_another_residual(make_model):
    """normalize_codes: z - sum of e / |e|; logits of the first level are the same."""
    raw, one = make_model(**DGI).heads, make_model(**DGI, normalize_codes=True).heads
    one.load_state_dict(raw.state_dict())
    z, codes = torch.randn(2, 16), torch.tensor([[1, 2], [0, 0]])
    with torch.no_grad():
        assert torch.equal(raw.logits(0, z), one.logits(0, z))
        wanted = z - sum(unit(raw.centres[i][codes[:, i]]) for i in range(2))
        torch.testing.assert_close(one.residual(z, codes), wanted)
        torch.testing.assert_close(one.residual(z, one_hot(codes, [4, 3])), wanted)


def test_the_scale_stays_below_a_hundred(make_model):
    """One learnable scale on a logarithm, clamped."""
    heads = make_model(**DGI, head_scale=30.0).heads
    assert heads.scale.item() == pytest.approx(30.0)
    with torch.no_grad():
        heads.log_scale.fill_(9.0)
    assert heads.scale.item() == 100.0


def test_points_are_what_logits_are_made_of(make_model, text):
    """path_points gives d_t; its similarity to the codebook is the level's logit."""
    model = make_model(**DGI)
    codes = torch.tensor([[1, 2], [0, 1], [3, 0]])
    with torch.no_grad():
        encoded = model.encode_query(**text)
        points, logits = model.path_points(encoded, codes), model.path_logits(encoded, codes)
        for level, point in enumerate(points):
            torch.testing.assert_close(model.heads.logits(level, point), logits[level])


# ---- prefixes, hard and soft ----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_path_at_once_is_level_by_level(make_model, text, shape):
    """path_logits of a whole id equals level_logits of each of its prefixes."""
    model = make_model(**shape)
    sizes = model.config.codebook_sizes
    codes = torch.stack([torch.randint(0, size, (3,)) for size in sizes], 1)
    with torch.no_grad():
        encoded = model.encode_query(**text)
        together = model.path_logits(encoded, codes[:, :-1])
        for level, logits in enumerate(together):
            torch.testing.assert_close(
                logits, model.level_logits(encoded, codes[:, :level]), atol=1e-4, rtol=1e-4
            )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_one_hot_distributions_are_hard_codes(make_model, text, shape):
    """A soft prefix without doubt is the prefix."""
    model = make_model(**shape)
    sizes = model.config.codebook_sizes
    codes = torch.stack([torch.randint(0, size, (3,)) for size in sizes], 1)
    with torch.no_grad():
        encoded = model.encode_query(**text)
        hard = model.path_logits(encoded, codes)
        soft = model.path_logits(encoded, one_hot(codes, sizes))
    for one, other in zip(hard, soft, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_soft_codes_are_expected_vectors():
    """Table by table, the mean of its rows under the distribution."""
    tables = [torch.randn(3, 5), torch.randn(4, 5)]
    weights = [torch.tensor([[0.2, 0.3, 0.5]]), torch.tensor([[0.0, 1.0, 0.0, 0.0]])]
    first, second = look_up(tables, weights)
    torch.testing.assert_close(
        first[0], 0.2 * tables[0][0] + 0.3 * tables[0][1] + 0.5 * tables[0][2]
    )
    torch.testing.assert_close(second[0], tables[1][1])
    hard = look_up(tables, torch.tensor([[2, 1]]))
    assert torch.equal(hard[0][0], tables[0][2]) and torch.equal(hard[1][0], tables[1][1])


def test_what_the_decoder_reads_may_differ_from_what_heads_see(make_model, text):
    """`read` changes the decoder's states alone."""
    model = make_model(**DGI)
    sizes = model.config.codebook_sizes
    codes = torch.tensor([[1, 2], [0, 1], [3, 0]])
    soft = soften(codes, sizes)
    with torch.no_grad():
        encoded = model.encode_query(**text)
        states = model.path_states(encoded, soft)
        logits = model.path_logits(encoded, codes, read=soft)
        for level in range(3):
            point = model.heads.point(
                level, states[:, level], encoded.pooler_output, codes[:, :level]
            )
            torch.testing.assert_close(logits[level], model.heads.logits(level, point))


def test_the_decoder_reads_the_query_and_the_codes_vectors(make_model, text):
    """Start + map(z), then map(sum_k p_k e_k), as DGI's Figure 2 draws it."""
    model = make_model(**DGI)
    codes = torch.tensor([[1, 2], [0, 1], [3, 0]])
    soft = soften(codes, model.config.codebook_sizes)
    with torch.no_grad():
        vectors = model.encode_query(**text).pooler_output
        read = model._read(soft, vectors)
        change = model.decoder.code_map
        start = model.decoder.embedding.weight[0] + change(vectors)
        torch.testing.assert_close(read[:, 0], start)
        for level in range(2):
            torch.testing.assert_close(
                read[:, level + 1], change(soft[level] @ model.heads.centres[level])
            )


def test_gradients_reach_soft_codes(make_model, text):
    """The logits of a later level move with the distribution of an earlier one."""
    model = make_model(**DGI)
    weights = torch.rand(3, 4, requires_grad=True)
    encoded = model.encode_query(**text)
    model.path_logits(encoded, [weights.softmax(-1)])[-1].square().sum().backward()
    assert weights.grad is not None and float(weights.grad.abs().sum()) > 0


# ---- indexers -------------------------------------------------------------------------------


def indexer(kind: str, dim: int = 7, **changes) -> tuple[GenRetModel, list[np.ndarray]]:
    """A model with such an indexer, and its codebooks in NumPy."""
    config = GenRetConfig(
        query_encoder={"type": "bag", "vocab_size": 9, "dim": dim},
        vector_dim=dim,
        codebook_sizes=[3, 4, 2],
        decoder_dim=8,
        **{"indexer": kind, "indexer_scale": 6.0, **changes},
    )
    model = GenRetModel(config).eval()
    books = getattr(model.indexer, "codebooks", [])
    with torch.no_grad():
        for level, table in enumerate(books):
            model.indexer.start(level, torch.randn_like(table))
        for table in getattr(model.heads, "centres", []):
            table.normal_()
    return model, [table.detach().double().numpy() for table in books]


@pytest.mark.parametrize("kind", ["cosine", "distance"])
def test_product_quantization_by_hand(kind):
    """Each level sees its own part of the vector, whatever the codes before; parts may differ."""
    model, books = indexer("pq", indexer_similarity=kind)
    assert [book.shape[1] for book in books] == [2, 2, 3]
    z = torch.randn(5, 7)
    parts = np.split(z.double().numpy(), [2, 4], axis=1)
    for level in range(3):
        prefix = torch.randint(0, 2, (5, level))
        with torch.no_grad():
            logits = model.indexer.level_logits(level, z, prefix, model.heads)
        np.testing.assert_allclose(
            logits, 6 * plain_similarity(kind, parts[level], books[level]), rtol=1e-4, atol=1e-4
        )
    whole = torch.tensor([[2, 0, 1]])
    np.testing.assert_allclose(
        model.indexer.reconstruct(whole)[0].detach(),
        np.concatenate([books[0][2], books[1][0], books[2][1]]),
        rtol=1e-5,
    )


@pytest.mark.parametrize("kind", ["cosine", "distance"])
@pytest.mark.parametrize("soft", [False, True])
def test_residual_quantization_by_hand(kind, soft):
    """Each level sees what the codes before, hard or soft, left over."""
    model, books = indexer("rq", indexer_similarity=kind)
    z, codes = torch.randn(5, 7), torch.randint(0, 2, (5, 3))
    weights = soften(codes, [3, 4, 2]) if soft else one_hot(codes, [3, 4, 2])
    left = z.double().numpy()
    for level in range(3):
        prefix = weights[:level] if soft else codes[:, :level]
        with torch.no_grad():
            logits = model.indexer.level_logits(level, z, prefix, model.heads)
            target = model.indexer.target(level, z, prefix)
        np.testing.assert_allclose(target, left, atol=1e-5)
        np.testing.assert_allclose(
            logits, 6 * plain_similarity(kind, left, books[level]), rtol=1e-4, atol=1e-4
        )
        left = left - weights[level].double().numpy() @ books[level]
    with torch.no_grad():
        whole = model.indexer.reconstruct(weights if soft else codes)
    np.testing.assert_allclose(z - whole, left, atol=1e-5)


def test_the_mlp_reads_the_vector_alone():
    """One MLP a level; the codes before change nothing."""
    model, _ = indexer("mlp")
    z = torch.randn(2, 7)
    with torch.no_grad():
        one = model.indexer.level_logits(1, z, torch.tensor([[0], [1]]), model.heads)
        other = model.indexer.level_logits(1, z, torch.tensor([[2], [2]]), model.heads)
    assert torch.equal(one, other) and one.shape == (2, 4)
    first, _, _, last = model.indexer.levels[1]
    hidden = z @ first.weight.T + first.bias
    wanted = torch.nn.functional.gelu(hidden) @ last.weight.T + last.bias
    torch.testing.assert_close(one, wanted)


@pytest.mark.parametrize("own", [0, 7.0])
def test_the_tied_indexer_quantizes_with_the_heads_codebooks(own):
    """scale * sim(residual, E) with the heads' E, and their scale unless it has its own."""
    model, _ = indexer("tied", head_type="codebook", head_scale=3.0, indexer_scale=own)
    z, codes = torch.randn(4, 7), torch.randint(0, 2, (4, 2))
    books = [table.detach().double().numpy() for table in model.heads.centres]
    left = z.double().numpy()
    for level in range(3):
        with torch.no_grad():
            logits = model.indexer.level_logits(level, z, codes[:, :level], model.heads)
        wanted = (own or 3.0) * plain_similarity("cosine", left, books[level])
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
        if level < 2:
            left = left - books[level][codes[:, level]]


@pytest.mark.parametrize("kind", ["decoder", "mlp", "pq", "rq", "tied"])
def test_index_logits_ask_the_indexer(make_model, text, kind):
    """The decoder where there is no other; else the indexer, reading the document's vector."""
    model = make_model(head_type="codebook", indexer=kind)
    codes = torch.tensor([[1], [0], [3]])
    with torch.no_grad():
        encoded = model.encode_items(**text)
        found = model.index_logits(encoded, codes)
        if kind == "decoder":
            wanted = model.level_logits(encoded, codes)
        else:
            wanted = model.indexer.level_logits(1, encoded.pooler_output, codes, model.heads)
    assert torch.equal(found, wanted) and found.shape == (3, 3)


@pytest.mark.parametrize("kind", ["cosine", "dot", "distance"])
def test_similarities_pair_by_pair(kind):
    """Cosine, inner product, minus squared distance up to what all codes share."""
    points, centres = torch.randn(4, 5), torch.randn(3, 5)
    found = similarity(kind, points, centres).double().numpy()
    wanted = plain_similarity(kind, points.double().numpy(), centres.double().numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indexer": "tied"}, "need head_type='codebook'"),
        ({"decoder_inputs": "codebooks"}, "need head_type='codebook'"),
        ({"decoder_inputs": "both"}, "decoder_inputs must be"),
        ({"indexer_similarity": "dot"}, "indexer_similarity must be"),
        ({"indexer": "rq", "indexer_scale": 0.0}, "needs indexer_scale above 0, found 0.0"),
        ({"ranking": "cosine"}, "ranking must be sum or lexicographic, found 'cosine'"),
    ],
)
def test_what_the_configuration_refuses(changes, message):
    """One sentence each."""
    with pytest.raises(ValueError, match=message):
        GenRetConfig(**changes)


def test_unknown_names_are_refused():
    """Indexer and ranker similarity are looked up by name."""
    with pytest.raises(ValueError, match="Unknown indexer 'tree'"):
        GenRetModel(GenRetConfig(indexer="tree"))
    with pytest.raises(ValueError, match="Unknown ranker_similarity 'l2'"):
        GenRetModel(GenRetConfig(ranker_similarity="l2"))


# ---- one Parameter a codebook -----------------------------------------------------------------


@pytest.mark.parametrize(("own", "keys"), [(0, set()), (30.0, {"indexer.scale"})])
def test_a_tied_codebook_is_saved_once(make_indexed, text, tmp_path, own, keys):
    """No second key, nothing declared as tied, and the loaded model answers the same."""
    model = make_indexed(**DGI, indexer_scale=own)
    assert not getattr(model, "_tied_weights_keys", None)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    books = {f"heads.centres.{level}" for level in range(3)}
    assert {name for name in names if "centres" in name or "codebook" in name} == books
    assert {name for name in names if name.startswith("indexer")} == keys
    loaded = GenRetModel.from_pretrained(tmp_path).eval()
    assert len({p.data_ptr() for p in loaded.parameters()}) == len(list(loaded.parameters()))
    encoded = loaded.encode_items(**text)
    none = torch.zeros(3, 0, dtype=torch.long)
    torch.testing.assert_close(
        loaded.index_logits(encoded, none), model.index_logits(encoded, none)
    )
    ours, theirs = model.search(**text, k=9), loaded.search(**text, k=9)
    assert torch.equal(ours.rows, theirs.rows) and torch.equal(ours.scores, theirs.scores)


def test_gradients_of_quantizer_and_head_add_up(make_model, text):
    """Both read one tensor: what each sends back is summed on it."""
    model = make_model(**DGI, indexer_scale=0)
    codes = torch.tensor([[1, 2], [0, 1], [3, 0]])

    def gradients(quantizer: float, head: float) -> list[Tensor]:
        model.zero_grad()
        encoded = model.encode_query(**text)
        logits = model.path_logits(encoded, codes)
        loss = head * sum(level.square().mean() for level in logits)
        for level in range(3):
            found = model.indexer.level_logits(
                level, encoded.pooler_output, codes[:, :level], model.heads
            )
            loss = loss + quantizer * found.log_softmax(-1)[:, 0].mean()
        loss.backward()
        return [table.grad.clone() for table in model.heads.centres]

    alone = zip(gradients(1.0, 0.0), gradients(0.0, 1.0), gradients(1.0, 1.0), strict=True)
    for quantizer, head, both in alone:
        assert float(quantizer.abs().sum()) > 0 and float(head.abs().sum()) > 0
        torch.testing.assert_close(both, quantizer + head, atol=1e-5, rtol=1e-4)


REMOTE = """
import json, sys
from safetensors.torch import load_file, save_file
from transformers import AutoModel
folder, out = sys.argv[1:]
text = load_file(out + "/text.safetensors")
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
assert type(model).__module__.startswith("transformers_modules."), type(model)
hits = model.search(**text, k=10)
ids = model.generate(**text, num_beams=6, num_return_sequences=6)
save_file({"rows": hits.rows, "scores": hits.scores, "ids": ids}, out + "/found.safetensors")
"""


def test_a_fresh_process_without_the_package(make_indexed, text, tmp_path):
    """The code of heads and indexer travels: same ids and hits with trust_remote_code alone."""
    model = make_indexed(**DGI, ranker_similarity="low_rank", ranking="lexicographic")
    model.save_pretrained(tmp_path / "model")
    save_file(text, tmp_path / "text.safetensors")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HF_HOME")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", REMOTE, str(tmp_path / "model"), str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found, hits = load_file(tmp_path / "found.safetensors"), model.search(**text, k=10)
    assert torch.equal(found["rows"], hits.rows) and torch.equal(found["scores"], hits.scores)
    ids = model.generate(**text, num_beams=6, num_return_sequences=6)
    assert torch.equal(found["ids"], ids)
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    assert settings["ranking"] == "lexicographic"

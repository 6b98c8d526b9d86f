"""Beams that are not held to ids that exist: what they spell, and what is found by it."""

from __future__ import annotations

import itertools

import pytest
import torch

from hf_genret.modeling import beam_search

SHAPES = {
    "cluster": {"codebook_sizes": [3, 2, 4]},
    "codebook": {"codebook_sizes": [3, 2, 4], "head_type": "codebook"},
    "shared plain": {"head_type": "plain", "share_levels": True, "codebook_sizes": [3, 3, 3]},
    "one level": {"codebook_sizes": [40]},
}


def spelled(model, text, row: int) -> dict[tuple[int, ...], float]:
    """log P of every id that the codebooks can spell, each alone through forward()."""
    offsets, out = model.config.level_offsets, {}
    query = {name: value[row : row + 1] for name, value in text.items()}
    for path in itertools.product(*map(range, model.config.codebook_sizes)):
        tokens = [code + offset for code, offset in zip(path, offsets, strict=True)]
        with torch.no_grad():
            logits = model(decoder_input_ids=torch.tensor([[0, *tokens[:-1]]]), **query).logits
        steps = logits[0].log_softmax(-1)
        out[path] = sum(float(steps[level, token]) for level, token in enumerate(tokens))
    return out


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_wide_beam_spells_every_id(make_indexed, text, shape):
    """In order of probability; those that exist lead to their leaf, the others to none."""
    model = make_indexed(12, **shape)
    total = torch.tensor(model.config.codebook_sizes).prod()
    real = set(map(tuple, model.index.paths.tolist()))
    with torch.no_grad():
        beams = beam_search(model, model.encode_query(**text), int(total), constrained=False)
    assert torch.isfinite(beams.scores).all() and 0 < len(real) < total
    for row in range(3):
        truth = spelled(model, text, row)
        found = [tuple(path) for path in beams.codes[row].tolist()]
        assert len(set(found)) == total
        wanted = torch.tensor([truth[path] for path in found])
        torch.testing.assert_close(beams.scores[row], wanted, atol=1e-4, rtol=0)
        assert (wanted.diff() < 1e-4).all()
        exists = torch.tensor([path in real for path in found])
        assert torch.equal(beams.leaf[row] >= 0, exists)
        assert torch.equal(model.index.locate(beams.codes[row]), beams.leaf[row])


@pytest.mark.parametrize("width", [1, 4])
def test_a_narrow_beam_follows_no_index(make_indexed, text, width):
    """The best prefixes of every level, whether or not a document has them."""
    model = make_indexed(6)
    offsets = model.config.level_offsets
    with torch.no_grad():
        found = beam_search(model, model.encode_query(**text), width, constrained=False)
    for row in range(3):
        query = {name: value[row : row + 1] for name, value in text.items()}
        beam: list[tuple[list[int], float]] = [([], 0.0)]
        for level, size in enumerate(model.config.codebook_sizes):
            longer = []
            for prefix, score in beam:
                tokens = [0, *(c + o for c, o in zip(prefix, offsets, strict=False))]
                with torch.no_grad():
                    logits = model(decoder_input_ids=torch.tensor([tokens]), **query).logits
                step = logits[0, -1].log_softmax(-1)[offsets[level] :][:size]
                longer += [([*prefix, c], score + float(step[c])) for c in range(size)]
            beam = sorted(longer, key=lambda pair: -pair[1])[:width]
        assert found.codes[row].tolist() == [path for path, _ in beam]


def test_a_search_finds_documents_of_real_ids_alone(make_indexed, text):
    """The pool is the union of the leaves that exist among the beams, ranked by vectors."""
    model = make_indexed(12)
    with torch.no_grad():
        found = model.search(k=12, num_beams=20, constrained=False, **text)
        vectors = model.encode_query(**text).pooler_output
    of_id: dict[tuple[int, ...], list[int]] = {}
    for path, row in zip(model.index.paths.tolist(), model.index.rows.tolist(), strict=True):
        of_id.setdefault(tuple(path), []).append(row)
    for query in range(3):
        visited = [tuple(path) for path in found.beam_codes[query].tolist()]
        pool = [row for path in visited for row in of_id.get(path, [])]
        scores = model.vectors[pool] @ vectors[query]
        wanted = [pool[place] for place in scores.argsort(descending=True).tolist()]
        assert [row for row in found.rows[query].tolist() if row >= 0] == wanted
        assert int(found.pool[query]) == len(pool) < 12


def test_beams_that_spell_nothing_find_nothing(make_indexed, text):
    """One document and one beam elsewhere: an empty answer, not an error."""
    model = make_indexed(1)
    with torch.no_grad():
        free = beam_search(model, model.encode_query(**text), 1, constrained=False)
        found = model.search(k=3, num_beams=1, constrained=False, **text)
        held = model.search(k=3, num_beams=1, **text)
    assert (free.leaf < 0).any() and (held.rows[:, 0] == 0).all()
    assert torch.equal(found.rows[:, 0] >= 0, free.leaf[:, 0] >= 0)


def test_a_filter_holds_without_the_constraint(make_indexed, text):
    """Documents that are not allowed are not found, however probable their ids."""
    model = make_indexed(12)
    allowed = torch.arange(12) % 2 == 0
    with torch.no_grad():
        found = model.search(k=12, num_beams=60, constrained=False, allowed=allowed, **text)
    rows = found.rows[found.rows >= 0]
    assert len(rows) == 18 and bool(allowed[rows].all())


def test_a_beam_over_everything_is_the_constrained_one(make_indexed, text):
    """Once every id is spelled the constraint makes no difference to what is found."""
    model = make_indexed(12)
    with torch.no_grad():
        free = model.search(k=5, num_beams=60, constrained=False, **text)
        held = model.search(k=5, num_beams=60, **text)
    assert torch.equal(free.rows, held.rows)
    torch.testing.assert_close(free.path_scores, held.path_scores, atol=1e-5, rtol=0)

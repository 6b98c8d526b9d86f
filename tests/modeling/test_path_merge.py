"""Scores of documents with several ids, against the formulas on every path's own score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genret.modeling import GenRetModel

DOCUMENTS, IDS = 20, 3


def several(make_model, merge: str, forest: bool = False, **changes) -> GenRetModel:
    """20 documents with three paths each, in a forest one a tree."""
    sizes = [IDS, 3, 3] if forest else [4, 3, 3]
    model = make_model(
        codebook_sizes=sizes,
        head_type="plain",
        forest=forest,
        ids_per_document=IDS,
        path_merge=merge,
        ranking="lexicographic",
        **changes,
    )
    rows = torch.arange(DOCUMENTS).repeat(IDS)
    codes = torch.stack([torch.randint(0, size, rows.shape) for size in sizes], 1)
    if forest:
        codes[:, 0] = torch.arange(IDS).repeat_interleave(DOCUMENTS)
    vectors = torch.nn.functional.normalize(torch.randn(DOCUMENTS, 16), dim=-1)
    model.set_index(codes, rows, vectors)
    return model


def paths_of(model: GenRetModel) -> dict[int, set[tuple[int, ...]]]:
    out: dict[int, set[tuple[int, ...]]] = {row: set() for row in range(DOCUMENTS)}
    for path, row in zip(model.index.paths.tolist(), model.index.rows.tolist(), strict=True):
        out[row].add(tuple(path))
    return out


def merged(merge: str, scores: list[float]) -> float:
    if merge == "sum":
        return float(np.sum(scores))
    return float(np.max(scores) if merge == "best" else np.logaddexp.reduce(scores))


@pytest.mark.parametrize(
    ("merge", "forest"),
    [("best", False), ("logsumexp", False), ("sum", True), ("best", True), ("logsumexp", True)],
)
def test_all_leaves_visited(make_model, exhaustive, text, merge, forest):
    """The formula over each document's paths, their scores by brute force."""
    model = several(make_model, merge, forest)
    truth, paths = exhaustive(model, **text), paths_of(model)
    out = model.search(**text, k=DOCUMENTS, num_beams=60)
    for query in range(3):
        wanted = {
            row: merged(merge, [float(truth[path][query]) for path in mine])
            for row, mine in paths.items()
        }
        assert sorted(out.rows[query].tolist()) == list(range(DOCUMENTS))
        found = dict(zip(out.rows[query].tolist(), out.scores[query].tolist(), strict=True))
        for row, score in wanted.items():
            assert found[row] == pytest.approx(score, abs=1e-4)
        assert out.scores[query].tolist() == sorted(out.scores[query].tolist(), reverse=True)
        assert torch.equal(out.scores[query], out.path_scores[query])


@pytest.mark.parametrize(("merge", "forest"), [("logsumexp", False), ("sum", True), ("best", True)])
@pytest.mark.parametrize("beams", [3, 6, 9])
def test_some_leaves_visited(make_model, text, merge, forest, beams):
    """Over the leaves found; in a sum a tree that missed a document counts with its last leaf."""
    model = several(make_model, merge, forest)
    paths = paths_of(model)
    out = model.search(**text, k=DOCUMENTS, num_beams=beams)
    for query in range(3):
        leaves = {
            tuple(path): score
            for path, score in zip(
                out.beam_codes[query].tolist(), out.beam_scores[query].tolist(), strict=True
            )
            if score > -torch.inf
        }
        last = [
            min(score for path, score in leaves.items() if path[0] == tree)
            for tree in range(IDS)
            if forest
        ]
        for row, mine in paths.items():
            reached = {path: leaves[path] for path in mine if path in leaves}
            assert (row in out.rows[query].tolist()) == bool(reached)
            if not reached:
                continue
            scores = list(reached.values())
            if merge == "sum":
                missed = set(range(IDS)) - {path[0] for path in reached}
                scores += [last[tree] for tree in missed]
            place = out.rows[query].tolist().index(row)
            assert float(out.scores[query, place]) == pytest.approx(merged(merge, scores), abs=1e-4)
            assert tuple(out.codes[query, place].tolist()) == max(reached, key=reached.get)


def test_a_sum_is_no_less_than_that_of_an_exact_search(make_model, exhaustive, text):
    """The last leaf of an exact search of a tree is an upper bound of what it did not visit."""
    model = several(make_model, "sum", forest=True)
    truth, paths = exhaustive(model, **text), paths_of(model)
    out = model.search(**text, k=DOCUMENTS, num_beams=6)
    exact = {tree: sorted(p for p in truth if p[0] == tree) for tree in range(IDS)}
    for query in range(3):
        best = [sorted(exact[t], key=lambda p: -truth[p][query])[:2] for t in range(IDS)]
        visited = {tuple(path) for path in out.beam_codes[query].tolist()}
        if visited != {path for two in best for path in two}:
            continue  # this beam was not exact
        for row, score in zip(out.rows[query].tolist(), out.scores[query].tolist(), strict=True):
            if row >= 0:
                assert score >= sum(float(truth[path][query]) for path in paths[row]) - 1e-4


def test_a_sum_without_a_forest_is_the_best(make_model, text):
    """Ids in no forest stand in one tree."""
    found = [
        several(make_model, merge).search(**text, k=9, num_beams=8) for merge in ("sum", "best")
    ]
    assert torch.equal(found[0].rows, found[1].rows)
    torch.testing.assert_close(found[0].scores, found[1].scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("merge", ["sum", "logsumexp"])
def test_the_beams_weight_is_of_the_merged_score(make_model, text, merge):
    """similarity + weight * merged; a document once, excluded ones never."""
    model = several(make_model, merge, forest=True)
    model.config.ranking, model.config.beam_weight = "sum", 0.3
    exclude = torch.tensor([[4, -1], [0, 7], [-1, -1]])
    out = model.search(**text, k=DOCUMENTS, num_beams=9, exclude=exclude)
    with torch.no_grad():
        queries = model.encode_query(**text).pooler_output
    for query in range(3):
        rows = out.rows[query][out.rows[query] >= 0]
        assert len(rows.unique()) == len(rows) == out.pool[query]
        assert not set(rows.tolist()) & set(exclude[query].tolist())
        similarity = model.vectors[rows] @ queries[query]
        wanted = similarity + 0.3 * out.path_scores[query, : len(rows)]
        torch.testing.assert_close(out.scores[query, : len(rows)], wanted, atol=1e-4, rtol=0)
        assert torch.equal(out.pool_rows[query, : len(rows)], rows)
        assert torch.equal(out.pool_paths[query, : len(rows)], out.path_scores[query, : len(rows)])

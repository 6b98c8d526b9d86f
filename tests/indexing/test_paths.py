"""Several paths a document: numbers, sparse scores, and the choice against exhaustive search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from hf_genret.errors import ConfigError
from hf_genret.indexing import paths as room
from hf_genret.indexing.paths import (
    Candidates,
    PathScores,
    choose_paths,
    flat_paths,
    path_codes,
    path_numbers,
    path_objective,
)


def test_numbers_are_digits_of_mixed_radix():
    """By hand, and back."""
    codes = np.array([[[0, 0, 0], [1, 2, 3]], [[0, 2, 1], [1, 0, 4]]])
    numbers = path_numbers(codes, [2, 3, 5])
    assert numbers.tolist() == [[0, 28], [11, 19]]
    assert np.array_equal(path_codes(numbers, [2, 3, 5]), codes)


def test_too_many_paths_for_a_number():
    """One sentence instead of numbers that wrap."""
    with pytest.raises(ConfigError, match="spell more than"):
        path_numbers(np.zeros((1, 9), int), [256] * 9)


def test_equal_paths_of_a_document_are_one():
    """Of others they are not."""
    paths = torch.tensor([[[1, 2], [1, 2], [0, 1]], [[1, 2], [3, 3], [3, 3]]])
    codes, rows = flat_paths(paths)
    assert codes.tolist() == [[1, 2], [0, 1], [1, 2], [3, 3]] and rows.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("buffer", [1 << 22, 8])
def test_scores_add_up_to_a_dense_matrix(monkeypatch, buffer):
    """Many batches, added up in between or not; the best few of a document are kept."""
    monkeypatch.setattr(room, "_BUFFER", buffer)
    rng = np.random.default_rng(0)
    scores, dense = PathScores(6, keep=50), np.zeros((6, 20))
    for _ in range(30):
        rows = rng.integers(5, size=4)  # the last document never comes
        paths = np.stack([rng.permutation(20)[:3] for _ in range(4)])
        values = rng.random((4, 3))
        scores.add(rows, paths, values)
        np.add.at(dense, (rows[:, None], paths), values)
    found = scores.candidates()
    assert found.start[5] == found.start[6] == len(found.path)
    for row in range(6):
        paths, values = found.of(row)
        assert paths.tolist() == np.flatnonzero(dense[row]).tolist()
        np.testing.assert_allclose(values, dense[row][paths])
    few = PathScores(6, keep=4)
    few.add(np.arange(5), np.tile(np.arange(20), (5, 1)), dense[:5])
    for row in range(5):
        best = np.sort(np.argsort(-dense[row], kind="stable")[:4])
        assert few.candidates().of(row)[0].tolist() == best[dense[row][best] > 0].tolist()


def problem(seed: int, documents: int, paths: int) -> tuple[Candidates, np.ndarray]:
    """Scores of every document at every path; documents are asked for differently often."""
    rng = np.random.default_rng(seed)
    score = rng.random((documents, paths)) ** 3 + 1e-3
    start = np.arange(documents + 1) * paths
    known = Candidates(start, np.tile(np.arange(paths), documents), score.reshape(-1))
    return known, rng.integers(1, 6, documents).astype(float)


def by_hand(chosen, score, queries, penalty) -> float:
    """The objective as it is written."""
    total = sum(
        n * math.log(sum(row[c] for c in mine))
        for n, row, mine in zip(queries, score, chosen, strict=True)
    )
    loads = [sum(c in mine for mine in chosen) for c in range(score.shape[1])]
    return total - penalty * sum(n**4 / 4 for n in loads)


@pytest.mark.parametrize("penalty", [0.0, 0.02, 0.2, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_choice_against_every_choice(seed, penalty):
    """Three documents, five paths, two each: all 1,000 assignments.

    Coordinate descent may end beside the best, but where it ends no document can do better alone.
    """
    candidates, queries = problem(seed, documents=3, paths=5)
    score = candidates.score.reshape(3, 5)
    twos = list(itertools.combinations(range(5), 2))
    best = max(
        by_hand(every, score, queries, penalty) for every in itertools.product(twos, repeat=3)
    )
    start = np.array([[0, 1]] * 3)
    found = choose_paths(candidates, queries, start, penalty=penalty, rounds=20)
    value = by_hand(found.tolist(), score, queries, penalty)
    assert value == pytest.approx(path_objective(found, candidates, queries, penalty))
    assert value >= by_hand(start.tolist(), score, queries, penalty)
    alone = [
        by_hand([*found[:row].tolist(), two, *found[row + 1 :].tolist()], score, queries, penalty)
        for row in range(3)
        for two in twos
    ]
    assert value == pytest.approx(max(alone))
    if penalty < 1:  # else a path that somebody has is out of reach for all others
        assert value >= best - 0.05 * abs(best)
    if penalty == 0:  # documents do not touch each other: nothing to be beside of
        assert value == pytest.approx(best)


def test_full_paths_are_passed_over():
    """All documents want the same two paths; the dearer these are, the fewer get them."""
    score = np.full((40, 10), 0.05)
    score[:, :2] = 0.4
    known = Candidates(np.arange(41) * 10, np.tile(np.arange(10), 40), score.reshape(-1))
    start = np.random.default_rng(0).integers(10, size=(40, 2))
    largest = []
    for penalty in (0.0, 1e-4, 1e-2):
        found = choose_paths(known, np.ones(40), start, penalty=penalty, rounds=10)
        largest.append(np.bincount(found.reshape(-1), minlength=10).max())
    assert largest[0] == 40 > largest[1] > largest[2] >= 8


def test_documents_that_nobody_asks_for_stay():
    """Without candidates; with fewer than wished a path comes twice and counts once."""
    known = Candidates(np.array([0, 0, 1]), np.array([7]), np.array([0.5]))
    found = choose_paths(known, np.array([0.0, 2.0]), np.array([[3, 4], [5, 6]]), penalty=1e-3)
    assert found.tolist() == [[3, 4], [7, 7]]
    assert path_objective(found, known, np.array([0.0, 2.0]), 1.0) == pytest.approx(
        2 * math.log(0.5) - 3 / 4
    )


def test_the_seed_fixes_the_choice():
    """Equal seeds, equal paths."""
    candidates, queries = problem(9, documents=50, paths=12)
    start = np.random.default_rng(1).integers(12, size=(50, 3))
    one, same = (
        choose_paths(candidates, queries, start, penalty=0.1, rounds=1, seed=5) for _ in range(2)
    )
    assert np.array_equal(one, same)

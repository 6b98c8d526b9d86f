"""Assignment and re-assignment of more items than memory holds."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret.indexing import scratch
from hf_genret.training import assignment
from hf_genret.training.assignment import query_log_likelihood
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.stage_actions import perform
from hf_genret.training.workshop import Workshop

BUDGET = 20  # cells: five items of four codes


@pytest.fixture
def make_shop(tiny, model_on, pairs_of):
    """A new workshop at level 2 of the same random model, ids given at random."""

    def make() -> Workshop:
        model, tokenizer = model_on(tiny, decoder_dropout=0.0)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.heads.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.5)
        stage = {"name": "s", "objective": "uri", "train": ["heads"], "level": 2}
        state = RunState.fresh(60, 2)
        shop = Workshop(model, pairs_of(tiny, model, tokenizer), state, stages_from([stage])[0], 0)
        perform(shop, {"ids": "random"})
        return shop

    return make


@pytest.fixture
def files(monkeypatch):
    """Every scratch file that is opened."""
    opened: list[Any] = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda **kw: opened.append(make(**kw)) or opened[-1]
    )
    return opened


@pytest.mark.parametrize("rows", [range(0, 60), range(0, 17), range(17, 60), range(5, 5)])
def test_likelihoods_of_some_items_are_those_of_all(make_shop, rows):
    """A stretch of items, whatever stands before and behind it."""
    shop = make_shop()
    whole = query_log_likelihood(shop, 1)
    found = query_log_likelihood(shop, 1, 7, rows=rows)
    assert found.shape == (len(rows), 3) and found.dtype == np.float64
    np.testing.assert_allclose(found, whole[rows.start : rows.stop], atol=1e-5)


@pytest.mark.parametrize("method", ["greedy", "argmax"])
@pytest.mark.parametrize("levels", [[2], [1, 2]])
def test_reassignment_by_blocks_gives_the_same_codes(make_shop, files, method, levels, monkeypatch):
    """Items, their queries and the rule a block at a time; all at once is the reference."""
    setting = {"reassign": {"method": method, "levels": levels}}
    shop = make_shop()
    facts = perform(shop, setting)
    expected = shop.state.codes.clone()
    assert not files
    shop = make_shop()
    monkeypatch.setattr(scratch, "BUDGET", BUDGET)
    assert perform(shop, setting) == facts
    assert torch.equal(shop.state.codes, expected)
    assert len(files) == len(levels) and all(file.closed for file in files)


def test_likelihoods_are_never_held_for_all_items(make_shop, monkeypatch):
    """No block of them has more cells than the budget, and all items are in one."""
    shop, seen = make_shop(), []

    def watched(*args, rows, **kwargs):
        seen.append(rows)
        return query_log_likelihood(*args, rows=rows, **kwargs)

    monkeypatch.setattr(assignment, "query_log_likelihood", watched)
    monkeypatch.setattr(scratch, "BUDGET", BUDGET)
    perform(shop, {"reassign": "greedy"})
    assert [row for rows in seen for row in rows] == list(range(60))
    assert max(len(rows) * 3 for rows in seen) <= BUDGET


def test_assignment_by_blocks_keeps_capacities(make_shop, files, monkeypatch):
    """`exact` beyond the budget: five items a leaf, and the file is gone."""
    shop = make_shop()
    monkeypatch.setattr(scratch, "BUDGET", BUDGET)
    perform(shop, {"reassign": {"method": "exact", "levels": [1, 2]}})
    leaves = shop.state.codes[:, 0] * 3 + shop.state.codes[:, 1]
    assert torch.bincount(leaves).tolist() == [5] * 12
    perform(shop, {"assign": "exact"})
    leaves = shop.state.codes[:, 0] * 3 + shop.state.codes[:, 1]
    assert torch.bincount(leaves).tolist() == [5] * 12
    assert len(files) == 3 and all(file.closed for file in files)


def test_the_file_is_gone_when_queries_fail(make_shop, files, monkeypatch):
    """The scores of the items are there already."""
    shop = make_shop()
    monkeypatch.setattr(scratch, "BUDGET", BUDGET)

    def fails(*args, **kwargs):
        raise RuntimeError("no more memory")

    monkeypatch.setattr(shop.model, "encode_query", fails)
    with pytest.raises(RuntimeError, match="no more memory"):
        perform(shop, {"reassign": "exact"})
    assert [file.closed for file in files] == [True]

"""Short runs of the tortures; `make torture` runs them long."""

from __future__ import annotations

import os

import pytest


def test_a_crowd_of_threads_gets_the_answers_of_one():
    """Searches with and without filters, iteration, saves and other indexes beside them."""
    from storm import storm

    counts, errors = storm(threads=8, seconds=4, documents=120, rounds=2)
    assert not errors and counts["hangs"] == 0 and counts["answers"] > 8, counts


def test_many_row_groups_are_read_by_many_threads(monkeypatch):
    """More groups than are kept decoded."""
    import storm

    monkeypatch.setattr("hf_genret.documents.GROUP", 4)
    counts, errors = storm.storm(threads=8, seconds=3, documents=320, rounds=1)
    assert not errors and counts["hangs"] == 0 and counts["answers"] > 8, counts


def test_readers_beside_a_writer_open_one_checkpoint_or_the_other():
    """A mixture never loads; `GenRetriever` is not even refused."""
    from mixtures import mixtures

    counts, messages = mixtures(loads=12, readers=("GenRetriever",))
    assert counts["whole"] == 12, (counts, messages)
    counts, messages = mixtures(loads=12, readers=("AutoModel",))
    assert counts["mixtures"] == counts["errors"] == 0 and counts["whole"], (counts, messages)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


@needs_fork
def test_killed_commands_lose_nothing_and_leave_nothing():
    """Each command once, at a moment drawn at random."""
    from kills import kills

    counts, messages = kills(4)
    assert counts["losses"] == counts["leftovers"] == 0, messages
    assert counts["killed"] + counts["finished"] == 4


@needs_fork
@pytest.mark.parametrize("exchanges", [True, False])
def test_a_save_killed_before_any_operation_on_files(exchanges):
    """By one system call or by two renames: the old checkpoint or the new one is there."""
    from kills import kills_of_a_save

    counts, messages = kills_of_a_save(step=29, first=11, exchanges=exchanges)
    assert counts["losses"] == counts["leftovers"] == 0, messages
    assert counts["killed"] > 3

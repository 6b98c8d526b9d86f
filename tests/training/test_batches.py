"""Batches of one group, and what is left over of each."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hf_genret.training.batches import PairBatches, pair_loader
from hf_genret.training.objectives import GenRetObjective, RankerObjective

SIZE = 8
# Groups of 21, 13, 8, 7, 3 and 1 pairs in no order.
GROUPS = np.random.default_rng(5).permutation(np.repeat([4, 0, 9, 2, 7, 5], [21, 13, 8, 7, 3, 1]))
LENGTHS = np.random.default_rng(6).integers(1, 50, size=len(GROUPS))


def order(seed: int = 0, stage: int = 0, epoch: int = 0) -> list[list[int]]:
    sampler = PairBatches(LENGTHS, SIZE, seed, stage, GROUPS)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("key", [(0, 0, 0), (1, 2, 3), (7, 0, 1)])
def test_every_pair_once_an_epoch(key):
    """Groups change the order alone; the batch that is not full comes last."""
    batches = order(*key)
    assert sorted(n for batch in batches for n in batch) == list(range(53))
    assert [len(batch) for batch in batches] == [8] * 6 + [5]
    assert len(batches) == len(PairBatches(LENGTHS, SIZE, 0, 0, GROUPS))


@pytest.mark.parametrize("epoch", range(5))
def test_large_groups_fill_batches_of_their_own(epoch):
    """A group of n pairs has floor(n / B) whole batches: 2, 1 and 1 here."""
    alone = Counter(
        int(GROUPS[batch[0]]) for batch in order(epoch=epoch) if len(set(GROUPS[batch])) == 1
    )
    assert all(alone[group] >= count for group, count in {4: 2, 0: 1, 9: 1}.items())


def test_what_is_left_over_stays_together():
    """Remainders follow each other group by group: no batch has more groups than it must."""
    left = {0: 5, 2: 7, 4: 5, 5: 1, 7: 3}  # in the order of their groups: 5 7 5 1 3
    mixed = [batch for batch in order() if len(set(GROUPS[batch])) > 1]
    assert Counter(int(g) for batch in mixed for g in GROUPS[batch]) == left
    found = sorted(sorted(Counter(GROUPS[batch].tolist()).items()) for batch in mixed)
    assert found == [[(0, 5), (2, 3)], [(2, 4), (4, 4)], [(4, 1), (5, 1), (7, 3)]]


def test_order_is_a_function_of_seed_stage_and_epoch():
    """The same three give the same batches, each of them others."""
    assert order(1, 2, 3) == order(1, 2, 3)
    assert all(other != order(1, 2, 3) for other in [order(0, 2, 3), order(1, 0, 3), order(1, 2)])


def test_every_epoch_mixes_a_group_anew():
    """Two pairs of a large group do not always meet."""
    partners = [
        frozenset(batch) for epoch in range(6) for batch in order(epoch=epoch) if 0 in batch
    ]
    assert len(set(partners)) == 6


def test_a_group_for_every_pair_changes_nothing_but_the_order():
    """Nobody has a partner: batches of the wished size all the same."""
    batches = list(PairBatches(LENGTHS, SIZE, 0, 0, np.arange(53)))
    assert [len(batch) for batch in batches] == [8] * 6 + [5]
    assert sorted(n for batch in batches for n in batch) == list(range(53))


def test_groups_of_documents_become_groups_of_pairs(tiny, model_on, pairs_of):
    """The loader takes a group a document row and batches the pairs by their document's."""
    model, tokenizer = model_on(tiny)
    data = pairs_of(tiny, model, tokenizer)
    groups = np.arange(60) % 2  # 40 pairs on even and odd rows
    loader = pair_loader(data, lambda *_: {}, 8, seed=0, stage=0, groups=groups)
    kinds = [set((batch["rows"] % 2).tolist()) for batch in loader]
    assert len(kinds) == 5 and sum(len(kind) > 1 for kind in kinds) <= 1


def test_a_trainer_asks_its_objective_for_groups(trainer_at, tmp_path, monkeypatch):
    """Through the loader of a stage: all but the left-over batches are of one group."""
    monkeypatch.setattr(RankerObjective, "groups", lambda self: np.arange(60) // 30)
    stage = {"name": "s", "objective": "ranker", "train": ["adapter"], "batch_size": 8}
    trainer = trainer_at(tmp_path, [stage])
    seen: list[set[int]] = []
    real = trainer.compute_loss

    def note(model, inputs, *args, **kwargs):
        seen.append(set((inputs["rows"] // 30).tolist()))
        return real(model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "compute_loss", note)
    trainer.train()
    assert len(seen) == 5 and sum(len(groups) > 1 for groups in seen) <= 1


def test_prefixes_are_groups():
    """GenRet's batches: documents of one prefix have one group, others another."""
    import torch

    from hf_genret.training.objectives import Context

    codes = torch.tensor([[0, 1, -1], [2, 1, -1], [0, 1, -1], [2, 0, -1]])
    groups = GenRetObjective(Context(codes, 3, [3, 3, 3], []), {}).groups()
    assert groups is not None and groups[0] == groups[2] and len(set(groups.tolist())) == 3

"""The constraint step against nested dictionaries, in all its forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_genret.modeling import DocidIndex, GenRetConfig
from hf_genret.modeling import mask_genret as masks

quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def build(codes, sizes) -> DocidIndex:
    index = DocidIndex(GenRetConfig(codebook_sizes=list(sizes)))
    index.build(torch.tensor(codes))
    return index


@st.composite
def corpora(draw):
    """(ids, sizes): random, skewed, unary, a single document, a full tree, ids that end early."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=9))
    code = [st.one_of(st.just(0), st.integers(0, size - 1)) for size in sizes]
    codes = [list(c) for c in draw(st.lists(st.tuples(*code), min_size=1, max_size=40))]
    if draw(st.booleans()):  # short ids: from some level on the code 0, which says that they end
        lengths = st.integers(1, len(sizes))
        codes = [c[:n] + [0] * (len(c) - n) for c, n in ((c, draw(lengths)) for c in codes)]
    return codes, sizes


def by_dict(trie, prefixes, scores):
    """What the mask has to give, cell by cell."""
    out = torch.full_like(scores, -torch.inf)
    for row, prefix in enumerate(prefixes):
        for code in trie.node(prefix):
            out[row, code] = scores[row, code]
    return out


@quick
@given(corpora(), st.sampled_from([None, *masks.FORMS]), st.data())
def test_each_form_is_the_dict_trie(dict_trie, corpus, form, data):
    """At every level, for any rows, some of them equal."""
    codes, sizes = corpus
    index, trie = build(codes, sizes), dict_trie(codes)
    kind = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    for level, size in enumerate(sizes):
        prefixes = trie.prefixes(level)
        chosen = data.draw(st.lists(st.sampled_from(prefixes), min_size=1, max_size=12))
        scores = torch.randn(len(chosen), size).to(kind)
        node = index.locate(torch.tensor(chosen, dtype=torch.long).view(len(chosen), level))
        ours = masks.mask_scores(masks.Children(index, level, node), scores, form=form)
        assert ours.dtype == kind
        wanted = by_dict(trie, chosen, scores)
        assert torch.equal(ours, wanted)
        own = scores.clone()
        ours = masks.mask_scores(masks.Children(index, level, node), own, form=form, out=own)
        assert ours.data_ptr() == own.data_ptr() and torch.equal(own, wanted)


@quick
@given(corpora(), st.sampled_from([None, "padded", "ragged"]), st.data())
def test_a_filter_for_each_query(dict_trie, corpus, form, data):
    """Every query of a batch has its own part of the index, its beams share it."""
    codes, sizes = corpus
    index = build(codes, sizes)
    sets = torch.tensor(
        data.draw(
            st.lists(
                st.lists(st.booleans(), min_size=len(codes), max_size=len(codes)),
                min_size=2,
                max_size=2,
            )
        )
    )
    allowed = masks.Allowed(sets, index.restrict(sets), torch.tensor([1, 0, 1]))
    tries = [
        dict_trie([code for code, keep in zip(codes, flags, strict=True) if keep] or [codes[0]])
        for flags in sets.tolist()
    ]
    for level, size in enumerate(sizes):
        whole = dict_trie(codes)
        chosen = [
            data.draw(st.sampled_from(whole.prefixes(level))) for _ in range(6)
        ]  # two beams for each of three queries
        node = index.locate(torch.tensor(chosen, dtype=torch.long).view(6, level))
        scores = torch.randn(6, size)
        ours = masks.mask_scores(
            masks.Children(index, level, node), scores, allowed=allowed, form=form
        )
        code, child, real = masks.candidates(masks.Children(index, level, node), allowed)
        for row, prefix in enumerate(chosen):
            part = int(allowed.part[row // 2])
            node_of = tries[part].node(prefix) if bool(sets[part].any()) else None
            wanted = set(node_of or ())
            found = {c for c in range(size) if ours[row, c] > -torch.inf}
            assert found == wanted
            assert sorted(code[row][real[row]].tolist()) == sorted(wanted)
            assert torch.equal(ours[row, sorted(wanted)], scores[row, sorted(wanted)])
        longer = torch.tensor(chosen, dtype=torch.long).view(6, level)
        places = torch.cat([longer.repeat_interleave(code.shape[1], 0), code.view(-1, 1)], 1)
        assert torch.equal(index.locate(places).view_as(child)[real], child[real])


def test_the_cheapest_form_follows_the_rows():
    """Few wide rows among many narrow ones are written as a list, even ones side by side."""
    size = 512
    codes = [[0, c] for c in range(size)] + [[c, 0] for c in range(1, size)]
    index = build(codes, [size, size])
    narrow, wide = torch.arange(1, 401), torch.cat([torch.zeros(1).long(), torch.arange(1, 400)])
    assert masks.choose_form(masks.Children(index, 1, narrow), tables=False) == "padded"
    assert masks.choose_form(masks.Children(index, 1, wide), tables=False) == "ragged"
    assert masks.choose_form(masks.Children(index, 0, torch.zeros(3).long())) == "table"


def test_tables_keep_to_their_budget(monkeypatch):
    """The smallest levels have one, as long as there is room."""
    index = build([[a, b, 0] for a in range(4) for b in range(4)], [4, 4, 4])
    sizes = [2 * 4, 2 * 4 * 4, 2 * 16 * 4]
    for budget, fits in [(7, 0), (8, 1), (sum(sizes[:2]), 2), (sum(sizes) - 1, 2), (sum(sizes), 3)]:
        monkeypatch.setattr(masks, "TABLE_BYTES", budget)
        assert [masks.table_fits(index, level) for level in range(3)] == [
            i < fits for i in range(3)
        ]
    assert masks.table(index, 1).tolist()[0] == [0, 0, 0, 0]


@pytest.mark.parametrize("form", [None, *masks.FORMS])
def test_scores_are_left_as_they_were(form):
    """The step returns a new block."""
    index = build([[0, 1], [2, 2]], [3, 3])
    scores = torch.randn(1, 3)
    before = scores.clone()
    masks.mask_scores(masks.Children(index, 0, torch.zeros(1).long()), scores, form=form)
    assert torch.equal(scores, before)

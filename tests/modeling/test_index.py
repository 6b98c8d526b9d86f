"""The id index against nested dictionaries."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_genret.modeling import DocidIndex, GenRetConfig

quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def build(codes, sizes, rows=None) -> DocidIndex:
    """An index over a list of ids."""
    index = DocidIndex(GenRetConfig(codebook_sizes=list(sizes)))
    index.build(torch.tensor(codes), None if rows is None else torch.tensor(rows))
    return index


@st.composite
def corpora(draw):
    """(ids, sizes, document rows): any depth up to 8, unary levels, duplicates, several paths."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    path = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    codes = draw(st.lists(path, min_size=1, max_size=40))
    rows = draw(st.lists(st.integers(0, 20), min_size=len(codes), max_size=len(codes)))
    return [list(c) for c in codes], sizes, rows


@quick
@given(corpora())
def test_each_node_has_the_children_of_the_dict_trie(dict_trie, corpus):
    """locate and edges agree with nested dictionaries at every prefix."""
    codes, sizes, rows = corpus
    index, trie = build(codes, sizes, rows), dict_trie(codes, rows)
    for level in range(len(sizes)):
        prefixes = trie.prefixes(level)
        node = index.locate(torch.tensor(prefixes, dtype=torch.long).view(len(prefixes), level))
        assert node.tolist() == list(range(len(prefixes)))
        start, count = index.edges(level, node)
        found = [
            set(index.level(level)[1][first : first + many].tolist())
            for first, many in zip(start.tolist(), count.tolist(), strict=True)
        ]
        assert found == [set(trie.node(p)) for p in prefixes]
        assert index.widest(level) == max(len(children) for children in found)


@quick
@given(corpora())
def test_buckets_hold_the_documents_in_order_of_arrival(dict_trie, corpus):
    """bucket() and leaf_of_path() give each leaf's documents, duplicates kept in order."""
    codes, sizes, rows = corpus
    index, trie = build(codes, sizes, rows), dict_trie(codes, rows)
    leaves = trie.prefixes(len(sizes))
    position, row = index.bucket(torch.arange(len(leaves)))
    for number, leaf in enumerate(leaves):
        assert row[position == number].tolist() == trie.node(leaf)
    assert torch.equal(index.leaf_of_path(), index.locate(index.paths))
    assert len(index) == len(codes) and index.check() is None


@quick
@given(corpora(), st.data())
def test_prefixes_that_do_not_exist_are_located_nowhere(dict_trie, corpus, data):
    """Any other prefix, also with codes out of range, is -1 and has no children."""
    codes, sizes, rows = corpus
    index, trie = build(codes, sizes, rows), dict_trie(codes, rows)
    length = data.draw(st.integers(1, len(sizes)))
    prefix = data.draw(st.lists(st.integers(-2, 6), min_size=length, max_size=length))
    node = index.locate(torch.tensor([prefix]))
    assert (int(node) >= 0) == (trie.node(prefix) is not None)
    if int(node) < 0 and length < len(sizes):
        assert int(index.child(length, node, torch.zeros(1, dtype=torch.long))) == -1


@quick
@given(corpora(), st.data())
def test_a_restricted_index_walks_like_a_rebuilt_one(dict_trie, corpus, data):
    """restrict() leaves exactly the edges of the trie over the allowed documents."""
    codes, sizes, rows = corpus
    allowed = torch.tensor(data.draw(st.lists(st.booleans(), min_size=21, max_size=21)))
    index = build(codes, sizes, rows)
    edges = index.restrict(allowed)
    remaining = [code for code, row in zip(codes, rows, strict=True) if allowed[row]]
    if not remaining:
        assert not any(edge.any() for edge in edges)
        return
    for level in range(len(sizes)):
        prefixes = sorted({tuple(code[:level]) for code in remaining})
        prefix = torch.tensor(prefixes, dtype=torch.long).view(len(prefixes), level)
        start, count = index.edges(level, index.locate(prefix))
        ours = [
            edges[level][a : a + n] for a, n in zip(start.tolist(), count.tolist(), strict=True)
        ]
        found = [
            index.level(level)[1][first : first + len(kept)][kept].tolist()
            for first, kept in zip(start.tolist(), ours, strict=True)
        ]
        trie = dict_trie(remaining, range(len(remaining)))
        assert found == [sorted(trie.node(p)) for p in prefixes]


def test_codes_take_the_smallest_type():
    """A byte up to 256 codes, two up to 32768, four above; pointers four."""
    index = build([[255, 256, 40000]], [256, 257, 70000])
    assert [index.level(i)[1].dtype for i in range(3)] == [torch.uint8, torch.int16, torch.int32]
    assert {index.level(i)[0].dtype for i in range(3)} == {torch.int32}
    assert index.paths.tolist() == [[255, 256, 40000]] and index.check() is None


def test_ids_too_long_for_one_number():
    """Eight levels of 2048 are 88 bits; sorted all the same, as lists are."""
    make = torch.Generator().manual_seed(4)
    codes = torch.randint(2048, (200, 8), generator=make)
    codes[100:, :5] = codes[:100, :5]
    index = build(codes.tolist(), [2048] * 8)
    assert index.paths.tolist() == sorted(codes.tolist()) and index.check() is None
    order = sorted(range(200), key=lambda row: codes[row].tolist())
    assert index.rows.tolist() == order


@pytest.mark.parametrize("sizes", [[1], [1, 1, 1], [7], [2] * 8, [3, 1, 4], [300, 2]])
def test_the_full_tree_and_a_single_document(every_id, dict_trie, sizes):
    """Every id that can be spelled, shuffled, and then only the last of them."""
    ids = every_id(sizes)
    index = build(ids[torch.randperm(len(ids))].tolist(), sizes)
    assert torch.equal(index.paths.long(), ids) and index.check() is None
    assert index.num_nodes == [
        len(dict_trie(ids.tolist()).prefixes(i + 1)) for i in range(len(sizes))
    ]
    single = build(ids[-1:].tolist(), sizes)
    assert single.num_nodes == [1] * len(sizes) and single.check() is None
    assert int(single.locate(ids[-1:])) == 0
    assert single.bucket(torch.tensor([0, -1]))[1].tolist() == [0]


@pytest.mark.parametrize(
    ("codes", "rows", "message"),
    [
        ([[0, 1, 2]], None, "shape"),
        ([0, 1], None, "shape"),
        ([[0, 3]], None, "0..K-1"),
        ([[-1, 0]], None, "0..K-1"),
        ([[0, 0], [1, 1]], [0], "one document row"),
        ([[0, 0]], [-1], "one document row"),
    ],
)
def test_ids_that_do_not_fit_are_refused(codes, rows, message):
    """Wrong length, code out of range, rows that do not match: one sentence."""
    with pytest.raises(ValueError, match=message):
        build(codes, [2, 3], rows)


def test_an_empty_list_of_ids_is_refused():
    """An index of nothing is not built."""
    index = DocidIndex(GenRetConfig(codebook_sizes=[2, 3]))
    with pytest.raises(ValueError, match="shape"):
        index.build(torch.zeros(0, 2))
    assert len(index) == 0 and index.check() is None


def shift(name, place, value):
    """A corruption that adds `value` to one entry of a buffer."""

    def corrupt(index):
        getattr(index, name)[place] += value

    return corrupt


def cut(name):
    """A corruption that drops the last entry of a buffer."""

    def corrupt(index):
        setattr(index, name, getattr(index, name)[:-1])

    return corrupt


def swap(name):
    """A corruption that exchanges the first two entries of a buffer."""

    def corrupt(index):
        getattr(index, name)[:2] = getattr(index, name)[:2].flip(0).clone()

    return corrupt


def zero(name):
    """A corruption that loses a buffer's values."""

    def corrupt(index):
        getattr(index, name).zero_()

    return corrupt


NAMES = ["paths", "rows", "buckets", "indptr_0", "codes_0", "indptr_1", "codes_1"]


@pytest.mark.parametrize(
    "corrupt",
    [
        *(cut(name) for name in NAMES),
        *(zero(name) for name in NAMES if name != "rows"),
        *(shift(name, 1, 1) for name in NAMES if name not in ("rows",)),
        *(shift(name, 0, 1) for name in ("indptr_0", "indptr_1", "buckets")),
        *(
            shift(name, -1, 50)
            for name in ("indptr_0", "indptr_1", "buckets", "codes_0", "codes_1")
        ),
        *(shift(name, 0, -50) for name in ("rows", "codes_0", "codes_1")),
        *(swap(name) for name in ("paths", "codes_0", "codes_1", "buckets", "indptr_1")),
        shift("buckets", 1, 2),
    ],
)
def test_check_names_a_corruption(corrupt):
    """Each buffer, cut, zeroed, shifted or swapped, is found out."""
    index = build([[0, 0], [0, 1], [0, 1], [1, 0], [1, 2], [2, 2]], [4, 4])
    assert index.check() is None
    corrupt(index)
    assert "id index" in index.check()


def test_a_state_with_other_sizes_is_taken_whole():
    """Ids assigned since the object was made come in through load_state_dict."""
    index = build([[0, 1], [1, 1], [1, 2]], [3, 3])
    fresh = DocidIndex(GenRetConfig(codebook_sizes=[3, 3]))
    fresh.load_state_dict(index.state_dict())
    assert fresh.check() is None
    for (name, ours), (_, theirs) in zip(fresh.named_buffers(), index.named_buffers(), strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), name


def test_sizes_in_the_configuration_follow_the_index(make_model):
    """set_index and a loaded state both update num_paths, num_nodes and num_documents."""
    model, other = make_model(), make_model()
    model.set_index(torch.tensor([[0, 0, 0], [0, 1, 0], [0, 1, 0]]), torch.tensor([4, 4, 1]))
    assert (model.config.num_paths, model.config.num_nodes) == (3, [1, 2, 2])
    assert model.config.num_documents == 5
    other.load_state_dict(model.state_dict())
    assert other.config.to_dict() == model.config.to_dict()


def test_a_refused_index_leaves_the_old_one(make_indexed):
    """Too few vectors: nothing is swapped, not even half."""
    model = make_indexed()
    before, vectors = model.index, model.vectors
    with pytest.raises(ValueError, match="3 documents, 2 have a vector"):
        model.set_index(torch.zeros(3, 3), vectors=torch.zeros(2, 16))
    assert model.index is before and model.vectors is vectors

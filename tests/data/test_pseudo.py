"""Queries made from documents."""

from __future__ import annotations

import pytest

from hf_genret.data import Documents, pseudo_queries
from hf_genret.data.pseudo import MAX_SENTENCE_WORDS, sentences
from hf_genret.errors import ConfigError

DOCUMENTS = Documents(
    ids=["a", "b", "c"],
    titles=["Growing apples", "", "Only a title"],
    texts=[
        "Apples grow on old trees. They are picked in autumn! Cider is pressed from apples.",
        "Bread needs flour and water and salt and a very hot oven to bake in.",
        "",
    ],
)


def by_kind(queries, kind):
    return {
        next(iter(gains)): text
        for name, gains, text in zip(queries.ids, queries.relevant, queries.texts, strict=True)
        if name.split(":")[1] == kind
    }


def test_same_seed_same_queries():
    """The same seed gives the same, another seed other queries."""
    first, again = (pseudo_queries(DOCUMENTS, seed=3) for _ in range(2))
    assert (first.ids, first.texts) == (again.ids, again.texts)
    assert any(pseudo_queries(DOCUMENTS, seed=n).texts != first.texts for n in range(4, 8))


def test_each_points_to_its_own_document():
    """Ids are row:kind:n and the only relevant document is the row."""
    queries = pseudo_queries(DOCUMENTS, seed=0)
    assert queries.ids[0] == "0:title:0"
    for name, gains in zip(queries.ids, queries.relevant, strict=True):
        assert gains == {int(name.split(":")[0]): 1.0}


def test_kinds():
    """Every kind takes its words from its own document."""
    queries = pseudo_queries(DOCUMENTS, seed=1)
    assert by_kind(queries, "title") == {0: "Growing apples", 2: "Only a title"}
    assert by_kind(queries, "sentence")[0] in sentences(DOCUMENTS.texts[0])
    span = by_kind(queries, "span")[1]
    assert span in DOCUMENTS.texts[1] and 4 <= len(span.split()) <= 12
    words = by_kind(queries, "keywords")[1].split()
    assert 3 <= len(words) <= 6 and set(words) <= set(DOCUMENTS.texts[1].lower().strip(".").split())


def test_keywords_are_the_rare_words():
    """Words that stand in every document are not chosen before rare ones."""
    documents = Documents(
        list("abcd"),
        [""] * 4,
        [f"common shared usual {w}x {w}y {w}z {w}q {w}r {w}s" for w in "abcd"],
    )
    queries = pseudo_queries(documents, kinds=["keywords"], per_document=1, seed=0)
    assert all(not {"common", "shared", "usual"} & set(text.split()) for text in queries.texts)


def test_row_does_not_depend_on_neighbours():
    """Without corpus statistics a document's queries stay when others are appended."""
    kinds = ["title", "sentence", "span"]
    alone = pseudo_queries(DOCUMENTS.take([0]), kinds=kinds, seed=5)
    assert pseudo_queries(DOCUMENTS, kinds=kinds, seed=5).texts[: len(alone)] == alone.texts


def test_no_repeated_texts():
    """More turns than a document has texts give fewer queries, none twice."""
    queries = pseudo_queries(DOCUMENTS, per_document=12, seed=0)
    pairs = [(*gains, text) for gains, text in zip(queries.relevant, queries.texts, strict=True)]
    assert len(pairs) == len(set(pairs)) and all(text for _, text in pairs)


def test_sentences_end_in_any_script():
    """Full stops of CJK text and blank lines end sentences as well."""
    assert sentences("One two. Three\nfour\n\nFive。Six！") == [
        "One two.",
        "Three four",
        "Five。",
        "Six！",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ["titel"]}, "'titel'"),
        ({"kinds": []}, "none"),
        ({"per_document": 0}, "per_document"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_that_cannot_work(arguments, message):
    """Unknown kinds and numbers out of range are named."""
    with pytest.raises(ConfigError, match=message):
        pseudo_queries(DOCUMENTS, **{"seed": 0, **arguments})


def test_scripts_without_spaces():
    """A Chinese text gives short spans and keywords of pairs of letters, not itself as one word."""
    text = "图书馆里有许多关于天气和茶的书籍可以借阅学习研究阅读。" * 4
    documents = Documents(["a"], [""], [text])
    queries = pseudo_queries(documents, kinds=("span", "keywords"), per_document=2, seed=0)
    span, keywords = queries.texts
    assert span in text and 4 <= len(span) <= 24
    assert 3 <= len(keywords.split()) <= 6
    assert all(len(word) == 2 and word in text for word in keywords.split())


def test_a_long_sentence_without_spaces_is_cut():
    """At twice as many letters as words are kept elsewhere."""
    documents = Documents(["a"], [""], ["学" * 300])
    queries = pseudo_queries(documents, kinds=("sentence",), per_document=1, seed=0)
    assert queries.texts == ["学" * 2 * MAX_SENTENCE_WORDS]

"""An explanation says what the search did, and its words are those of the formula."""

from __future__ import annotations

import json
import math
import re
from collections import Counter

import pytest
import torch

from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.errors import DataError
from hf_genret.explain import words_of
from hf_genret.explain.nodes import node_of
from hf_genret.retriever import GenRetriever

QUERY = "black owl roof"


@pytest.fixture
def mapped(retriever):
    """Every document with its id."""
    pairs = zip(retriever.model.index.rows.tolist(), retriever.model.index.paths, strict=True)
    return {f"d{row}": tuple(path.tolist()) for row, path in pairs}


def test_scores_ids_and_places_are_those_of_the_hits(retriever):
    """For every hit of a search: the same score, the same docid, the place among those ranked."""
    hits = retriever.search(QUERY, k=12)
    for place, hit in enumerate(hits, start=1):
        found = retriever.explain(QUERY, hit.id, k=12)
        assert found.score == pytest.approx(hit.score, abs=1e-5)
        assert found.docid == hit.docid and found.title == hit.document["title"]
        assert found.reached and found.rank == place and found.query == QUERY
        assert found.ranked >= len(hits)


def test_probabilities_are_those_of_the_models_forward(retriever):
    """Softmax of the level's logits, as forward() gives them over its whole vocabulary."""
    (hit,) = retriever.search(QUERY, k=1)
    found = retriever.explain(QUERY, hit.id)
    tokens = retriever.processing_class([QUERY], return_tensors="pt")
    offsets = retriever.model.config.level_offsets
    start = [0, offsets[0] + hit.docid[0]]
    with torch.no_grad():
        logits = retriever.model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            decoder_input_ids=torch.tensor([start]),
        ).logits[0]
    for level, step in enumerate(found.steps):
        p = logits[level].softmax(-1)
        for choice in (step.taken, *step.siblings):
            assert choice.probability == pytest.approx(float(p[offsets[level] + choice.code]), 1e-4)
    assert found.path_score == pytest.approx(
        sum(math.log(step.taken.probability) for step in found.steps), abs=1e-4
    )


def test_siblings_are_the_best_codes_that_exist_beside_it(retriever, mapped):
    """Falling probabilities, none of them the code taken, documents counted by hand."""
    found = retriever.explain(QUERY, "d0", siblings=2)
    prefix = ()
    for step in found.steps:
        depth = len(prefix)
        beside = {path[depth] for path in mapped.values() if path[:depth] == prefix}
        assert step.ways == len(beside) and len(step.siblings) == min(2, step.ways - 1)
        assert step.taken.prefix == mapped["d0"][: depth + 1]
        assert {choice.code for choice in step.siblings} <= beside - {step.taken.code}
        probabilities = [choice.probability for choice in step.siblings]
        assert probabilities == sorted(probabilities, reverse=True)
        assert step.rank == 1 + sum(p > step.taken.probability for p in probabilities) or (
            step.rank > 2
        )
        for choice in (step.taken, *step.siblings):
            below = [path for path in mapped.values() if path[: depth + 1] == choice.prefix]
            assert choice.documents == len(below)
        prefix = step.taken.prefix
    everything = retriever.explain(QUERY, "d0", siblings=99).steps[0]
    assert len(everything.siblings) == everything.ways - 1


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_reached_exactly_where_the_search_finds_it(retriever, beams):
    """A beam too narrow: what is not reached is no hit, and the level says where it went."""
    hits = {hit.id for hit in retriever.search(QUERY, k=40, num_beams=beams)}
    for found in retriever.explain(QUERY, retriever.documents.ids, num_beams=beams):
        assert found.reached == (found.id in hits) == (found.rank is not None)
        assert found.beams == beams and found.reached == (found.lost_at is None)
        if found.lost_at is not None:
            kept = [step.beam is not None for step in found.steps]
            assert kept.index(False) + 1 == found.lost_at
            assert "not reached" in found.verdict()
    with_probability = retriever.explain(QUERY, "d0", num_beams=beams, siblings=99).steps[0]
    better = sum(
        choice.probability > with_probability.taken.probability
        for choice in with_probability.siblings
    )
    assert with_probability.beam == (better + 1 if better < beams else None)


def test_a_filter_narrows_the_ways(retriever):
    """Only codes that lead to an allowed document are choices; what is left out is refused."""
    allowed = ["d3", "d5", "d17"]
    for found in retriever.explain(QUERY, allowed, only=allowed):
        assert found.steps[0].ways <= 3 and found.reached and found.ranked == 3
        (hit,) = [hit for hit in retriever.search(QUERY, only=allowed) if hit.id == found.id]
        assert found.score == pytest.approx(hit.score, abs=1e-5)
    with pytest.raises(DataError, match=r"only= leaves out the document 'd0'"):
        retriever.explain(QUERY, "d0", only=allowed)


def test_of_several_ids_the_most_probable_counts(retriever):
    """A document with two paths is explained by the one that its hit carries."""
    model = retriever.model
    codes = torch.cat([model.index.paths.long(), torch.tensor([[0, 0], [3, 4]])])
    rows = torch.cat([model.index.rows.long(), torch.tensor([5, 5])])
    model.set_index(codes, rows, model.vectors)
    hits = {hit.id: hit for hit in retriever.search(QUERY, k=40, num_beams=20)}
    found = retriever.explain(QUERY, "d5", num_beams=20)
    assert found.docid == hits["d5"].docid and found.score == pytest.approx(hits["d5"].score, 1e-4)
    assert retriever.tree(depth=0).documents == 40, "each document once"


def test_histories(shop):
    """A model of histories: query None; the score is that of recommend()."""
    history = ["d1", "d7"]
    (hit, *_) = shop.recommend(history, k=3)
    found = shop.explain(None, hit.id, k=3, history=history)
    assert found.score == pytest.approx(hit.score, abs=1e-5) and found.rank == 1
    assert found.docid == hit.docid and found.query == "d1, d7"
    assert shop.explain(None, "d1", history=history, num_beams=20).rank is None, "left out"


def test_wrong_questions_get_one_sentence(retriever, shop):
    """Unknown id, no text, nothing asked, text for a model of histories."""
    with pytest.raises(DataError, match=r"no document with the id 'zz'"):
        retriever.explain(QUERY, "zz")
    with pytest.raises(DataError, match=r"query 1 is empty"):
        retriever.explain(" ", "d0")
    with pytest.raises(DataError, match=r"give a query"):
        retriever.explain(None, "d0")
    with pytest.raises(DataError, match=r"reads text, not histories"):
        retriever.explain(None, "d0", history=["d1"])
    with pytest.raises(DataError, match=r"reads histories, not text"):
        shop.explain(QUERY, "d0")
    assert retriever.explain(QUERY, []) == []


def test_it_reads_and_travels(retriever):
    """As text every level, its words and the score; as JSON the same values."""
    found = retriever.explain(QUERY, "d0")
    text = str(found)
    assert text.startswith("d0: Title 0\ndocid ") and "level 2: number" in text
    assert f"= {found.score:.4f}" in text.splitlines()[-1]
    assert f"{100 * found.steps[0].taken.probability:.1f} %" in text
    back = json.loads(json.dumps(found.to_dict()))
    assert back["reached"] is found.reached and back["steps"][0]["taken"]["words"]


def by_formula(documents, paths, prefix):
    """W(t, c) of every word below a prefix, with dictionaries."""

    def counted(texts):
        total = Counter()
        for text in texts:
            for word, count in Counter(re.findall(r"[a-z]{2,}", text.lower())).items():
                total[word] += 1 + math.log(count)
        return total

    texts = documents.full_texts()
    below = counted(
        t for t, path in zip(texts, paths, strict=True) if path[: len(prefix)] == prefix
    )
    everything = counted(texts)
    mean = sum(everything.values()) / len(set(paths))
    size = sum(below.values())
    return {t: n / size * math.log(1 + mean / everything[t]) for t, n in below.items()}


def test_words_are_those_of_the_formula(retriever, corpus, mapped):
    """Class-based TF-IDF by hand, for every prefix; equal values in alphabetical order."""
    paths = [mapped[identifier] for identifier in corpus.ids]
    words = words_of(retriever)
    for prefix in {path[:level] for path in paths for level in (0, 1, 2)}:
        node = node_of(retriever.model.index, prefix)
        value = by_formula(corpus, paths, prefix)
        expected = sorted(value, key=lambda t: (-round(value[t], 9), t))[:5]
        assert list(words.of(len(prefix), node, 5)) == expected


def test_words_of_documents_without_text():
    """Titles where there is no text; the id where there is no word at all."""
    documents = Documents(["i1", "i2", "i3"], ["Red lipstick", "42", "Soap"], ["", "", ""])
    retriever = tiny_retriever(documents, codebook_sizes=[3])
    found = {node.documents and node.words for node in retriever.tree().children}
    assert found == {("lipstick", "red"), ("i2",), ("soap",)}


def test_words_are_counted_once_and_again_for_another_index(retriever):
    """Kept with the index they belong to."""
    first = words_of(retriever)
    assert words_of(retriever) is first
    retriever.index([{"_id": "new", "title": "Sea", "text": "a whale"}])
    assert words_of(retriever) is not first
    assert retriever.tree().children[0].words[:2] == ("sea", "whale")


def test_the_tree(retriever, mapped):
    """Sizes by hand, the largest children first, what is not shown counted; text for people."""
    tree = retriever.tree(depth=2, children=3)
    assert (tree.prefix, tree.documents, tree.words) == ((), 40, ())
    sizes = Counter(path[0] for path in mapped.values())
    assert [child.documents for child in tree.children] == sorted(sizes.values(), reverse=True)[:3]
    for child in tree.children:
        assert sizes[child.prefix[0]] == child.documents and child.words
        assert child.ways == len({p for p in mapped.values() if p[:1] == child.prefix})
    assert f"and {tree.ways - 3} smaller ones" in str(tree)
    below = retriever.tree(tree.children[0].prefix, depth=1, children=99)
    assert below.ways == len(below.children) and below.documents == tree.children[0].documents
    leaf = retriever.tree(below.children[0].prefix)
    assert leaf.ways == 0 and leaf.children == ()
    assert json.loads(json.dumps(tree.to_dict()))["documents"] == 40


@pytest.mark.parametrize("prefix", [(9,), (0, 0, 0), (-1,)])
def test_a_prefix_that_does_not_exist(retriever, prefix):
    """One sentence with the prefix."""
    name = "-".join(map(str, prefix))
    with pytest.raises(DataError, match=f"no docid begins with '{name}'"):
        retriever.tree(prefix)


def test_the_same_after_a_checkpoint(retriever, tmp_path):
    """Saved and loaded: the same explanation and the same tree."""
    retriever.save_pretrained(tmp_path / "out")
    again = GenRetriever.from_pretrained(tmp_path / "out")
    assert str(again.explain(QUERY, "d7")) == str(retriever.explain(QUERY, "d7"))
    assert again.tree() == retriever.tree()


def test_words_of_a_script_without_spaces():
    """Pairs of letters that only documents below a prefix have, not whole sentences."""
    texts = ["图书馆里没有书", "图书馆开门了", "天气很好", "天气不好"]
    small = tiny_retriever(Documents(list("abcd"), [""] * 4, texts), codebook_sizes=[2, 2])
    vocabulary = set(words_of(small).vocabulary)
    assert "图书" in vocabulary and "天气" in vocabulary
    assert all(len(word) == 2 for word in vocabulary)

"""One retriever in several threads: what is answered is of one state; copies answer the same."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

from hf_genret.retriever import GenRetriever


@pytest.fixture
def other():
    """Another corpus than the fixture's."""
    return [{"id": f"x{i}", "text": f"black owl number {i}"} for i in range(12)]


def test_an_answer_is_of_the_index_that_stood_when_it_was_asked(retriever, other, monkeypatch):
    """An index that is replaced while a search runs changes neither its ids nor its documents."""
    before = retriever.search("black owl", k=3)
    from hf_genret import hits

    real = hits.search_wide

    def search(*arguments):
        monkeypatch.setattr(hits, "search_wide", real)
        retriever.index(other)
        return real(*arguments)

    monkeypatch.setattr(hits, "search_wide", search)
    assert retriever.search("black owl", k=3) == before
    assert retriever.search("black owl", k=1)[0].id.startswith("x")


def test_a_model_that_was_taken_stays_as_it_is(retriever, other):
    """index() and compress_vectors() put another model in its place and share its weights."""
    model, documents = retriever.model, retriever.documents
    retriever.index(other)
    retriever.compress_vectors("int8")
    assert (len(model.index), len(documents)) == (40, 40)
    assert len(retriever.model.index) == 12 and model.config.num_documents == 40
    assert retriever.model.decoder is model.decoder
    assert retriever.model.stored_vectors()[1] is not None and model.stored_vectors()[1] is None


def test_saving_does_not_claim_an_index_that_came_meanwhile(
    retriever, other, tmp_path, monkeypatch
):
    """The folder is that of what was saved, and not of what is answered from now."""
    from hf_genret import checkpoints

    real = checkpoints.write_folder

    def write(*arguments):
        path = real(*arguments)
        retriever.index(other)
        return path

    monkeypatch.setattr(checkpoints, "write_folder", write)
    retriever.save_pretrained(tmp_path / "out")
    assert retriever.folder is None and len(retriever.documents) == 12
    assert len(GenRetriever.from_pretrained(tmp_path / "out").documents) == 40


def test_many_threads_say_what_one_says(retriever):
    """Also where all of them are the first to ask."""
    queries = ["black owl", "green hen on the hill", "red fox", "white cat roof"]
    alone = [retriever.search(query, k=5) for query in queries]
    fresh = pickle.loads(pickle.dumps(retriever))
    said: dict[int, list] = {}

    def ask(number):
        said[number] = [fresh.search(query, k=5) for query in queries]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 8 and all(one == alone for one in said.values())


@pytest.mark.parametrize(
    "copied",
    [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)
@pytest.mark.parametrize("loaded", [False, True])
def test_copies_answer_the_same(retriever, tmp_path, copied, loaded):
    """Of one in memory and of one from a folder; a changed copy leaves the other alone."""
    if loaded:
        retriever.save_pretrained(tmp_path / "out")
        retriever = GenRetriever.from_pretrained(tmp_path / "out", device="cpu")
        retriever.explain("black owl", "d3")  # words of prefixes are counted now
    twin = copied(retriever)
    for query in ("black owl", "green hen"):
        assert twin.search(query, k=5) == retriever.search(query, k=5)
    assert str(twin.explain("black owl", "d3")) == str(retriever.explain("black owl", "d3"))
    twin.index([{"id": "x", "text": "another corpus"}])
    assert len(retriever.documents) == 40 and len(twin.documents) == 1

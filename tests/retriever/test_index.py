"""index() gives a trained model other documents."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import pytest
import torch

from hf_genret.data.schema import Documents
from hf_genret.encoding import ItemSource, pooled_vectors
from hf_genret.errors import DataError
from hf_genret.indexing import scratch
from hf_genret.indexing.by_model import assign_by_model, level_log_probs, level_scores
from hf_genret.modeling.indexers_genret import INDEXERS
from hf_genret.retriever import GenRetriever

RECORDS = [
    {"_id": f"n{i}", "title": "", "text": f"{animal} on the {place} {i}", "kind": animal}
    for i, (animal, place) in enumerate([("owl", "roof"), ("cat", "hill"), ("hen", "roof")] * 20)
]


def test_level_log_probs_are_the_models(retriever, corpus):
    """Distributions over a level's codes, those of the model asked item by item."""
    source = ItemSource(retriever.model, corpus, retriever.processing_class)
    codes = np.stack([np.arange(40) % 4, np.arange(40) % 5], axis=1)
    found = level_log_probs(retriever.model, source, codes, 1, batch_size=7)
    assert found.shape == (40, 5) and found.dtype == np.float32
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)
    for row in (0, 17, 39):
        tokens = retriever.processing_class([corpus.full_text(row)], return_tensors="pt")
        with torch.no_grad():
            encoded = retriever.model.encode_items(**tokens)
            logits = retriever.model.level_logits(encoded, torch.tensor([[row % 4]]))
        expected = logits[0].log_softmax(-1).numpy()
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_level_log_probs_wants_the_codes_above(retriever, corpus):
    """Too few levels or items are an error."""
    source = ItemSource(retriever.model, corpus, retriever.processing_class)
    for shape in ((40, 0), (39, 1)):
        with pytest.raises(ValueError, match="Expected 1 codes for each of 40 items"):
            level_log_probs(retriever.model, source, np.zeros(shape, int), 1)


@pytest.mark.parametrize("method", ["exact", "greedy", "argmax"])
def test_assign_by_model(retriever, corpus, method):
    """Equal shares a parent; without capacity each level's most probable code."""
    source = ItemSource(retriever.model, corpus, retriever.processing_class)
    codes, displaced = assign_by_model(retriever.model, source, method=method)
    assert codes.shape == (40, 2) and codes.dtype == np.int32 and source.vectors is None
    if method == "argmax":
        assert displaced == [0.0, 0.0]
        for level in range(2):
            best = level_log_probs(retriever.model, source, codes, level).argmax(axis=1)
            assert (codes[:, level] == best).all()
        return
    assert (np.bincount(codes[:, 0], minlength=4) == 10).all()
    for parent in range(4):
        assert (np.bincount(codes[codes[:, 0] == parent, 1], minlength=5) == 2).all()
    again, _ = assign_by_model(retriever.model, source, method=method)
    assert (again == codes).all()


@pytest.mark.parametrize("method", ["greedy", "argmax"])
def test_scores_in_a_file_give_the_same_codes(retriever, corpus, method, monkeypatch):
    """More items than memory holds: the whole matrix is the reference."""
    source = ItemSource(retriever.model, corpus, retriever.processing_class)
    expected = assign_by_model(retriever.model, source, method=method, batch_size=7)
    monkeypatch.setattr(scratch, "BUDGET", 25)
    found = assign_by_model(retriever.model, source, method=method, batch_size=7)
    assert (found[0] == expected[0]).all() and found[1] == expected[1]


def test_loads_are_kept_with_scores_in_a_file(retriever, corpus, monkeypatch):
    """`exact` beyond the budget: every node still gets its share."""
    source = ItemSource(retriever.model, corpus, retriever.processing_class)
    monkeypatch.setattr(scratch, "BUDGET", 25)
    codes, _ = assign_by_model(retriever.model, source, method="exact")
    assert (np.bincount(codes[:, 0] * 5 + codes[:, 1], minlength=20) == 2).all()


@pytest.mark.parametrize("part", ["encode_items", "index_logits"])
def test_the_file_of_scores_is_closed_after_an_exception(retriever, corpus, part, monkeypatch):
    """Wherever the model fails."""
    files, make = [], tempfile.TemporaryFile
    monkeypatch.setattr(scratch, "BUDGET", 25)
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda **kw: files.append(make(**kw)) or files[-1]
    )
    source = ItemSource(retriever.model, corpus, retriever.processing_class)
    calls, work = [], getattr(retriever.model, part)

    def fails_later(*args, **kwargs):
        calls.append(part)
        if len(calls) > 2:
            raise RuntimeError("no more memory")
        return work(*args, **kwargs)

    monkeypatch.setattr(retriever.model, part, fails_later)
    with pytest.raises(RuntimeError, match="no more memory"):
        level_scores(retriever.model, source, np.zeros((40, 0), int), 0, batch_size=7)
    assert [file.closed for file in files] == [True]


@pytest.mark.parametrize("indexer", ["mlp", "pq", "rq"])
def test_an_indexer_beside_the_decoder_gives_the_codes(retriever, corpus, indexer):
    """Each level's most probable code of the indexer; the decoder is not asked."""
    model = retriever.model
    model.indexer = INDEXERS[indexer](model.config)
    for parameter in model.indexer.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    model.decoder = None
    source = ItemSource(model, corpus, retriever.processing_class)
    codes, displaced = assign_by_model(model, source, method="argmax")
    assert displaced == [0.0, 0.0] and len(np.unique(codes[:, 0])) > 1
    vectors, prefix = pooled_vectors(model, source), torch.from_numpy(codes.astype(np.int64))
    for level in range(2):
        logits = model.indexer.eval().level_logits(level, vectors, prefix[:, :level], None)
        assert (logits.argmax(-1) == prefix[:, level]).all()


def test_index_replaces_documents_ids_and_vectors(retriever, tmp_path):
    """Records in; found, balanced, saved and loaded; the old figures are not theirs."""
    retriever.save_pretrained(tmp_path / "old", extra_manifest={"seed": 7})
    retriever = GenRetriever.from_pretrained(tmp_path / "old")
    retriever.index(RECORDS)
    hits = retriever.search("hen roof", k=5)
    assert {hit.document["kind"] for hit in hits} == {"hen"}
    assert hits[0].id.startswith("n")
    facts = retriever.describe()
    assert facts["documents"] == 60 and facts["buckets"]["max"] == 3 == facts["buckets"]["min"]
    retriever.save_pretrained(tmp_path / "new")
    assert GenRetriever.from_pretrained(tmp_path / "new").search("hen roof", k=5) == hits
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["seed"] == 7 and manifest["data"]["documents"] == 60


def test_index_reads_a_file(retriever, tmp_path):
    """A path as data loading takes it."""
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    retriever.index(path)
    assert len(retriever.documents) == 60


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([], "expected documents, found none"),
        (Documents([], [], []), "expected documents, found none"),
        ([{"_id": "a", "text": "x"}, {"_id": "a", "text": "y"}], "line 2.*'a' which line 1 has"),
        ([{"_id": "a", "text": ""}], "expected a text or a title"),
        ("nowhere.jsonl", "found nothing there"),
    ],
)
def test_faulty_documents_leave_the_index_as_it_was(retriever, documents, said):
    """One sentence, and the same hits as before."""
    before = retriever.search("owl", k=3)
    with pytest.raises(DataError, match=said):
        retriever.index(documents)
    assert retriever.search("owl", k=3) == before


def test_index_with_fewer_documents_than_codes(retriever):
    """One document is enough."""
    retriever.index([{"id": 5, "title": "only one"}])
    (hit,) = retriever.search("anything", k=3)
    assert hit.id == "5"

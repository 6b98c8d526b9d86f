"""Fakes for what the commands call, so that their tests train and load nothing."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

REPORT = {
    "data": {"name": "tiny", "fingerprint": "f00d", "documents": 9, "queries": 4},
    "split": "test",
    "seed": 0,
    "systems": {
        "generative": {
            "metrics": {"ndcg@10": {"mean": 0.61234, "low": 0.6, "high": 0.63}},
            "documents_ranked": 84.2,
            "latency_ms": 1.5,
            "bytes": 123456,
        },
        "bm25": {"metrics": {"ndcg@10": {"mean": 0.59, "low": None, "high": None}}},
    },
    "searches": [
        {
            "query": "join two paths",
            "hits": [{"id": "os.path.join", "score": 1.5, "docid": [3, 7], "title": "join"}],
        }
    ],
}

COMPARISON = {"systems": {"uri": {}}, "failed": []}


class FakeRetriever:
    """Notes each call and answers with one hit."""

    def __init__(self, calls):
        self.calls = calls
        self.model = SimpleNamespace(encoder=SimpleNamespace(query="text", history="items"))

    def __getattr__(self, name):
        def method(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            if name in ("search", "recommend"):
                document = {"title": "A title", "text": "words"}
                return [SimpleNamespace(id="d1", score=0.5, docid=(1, 2), document=document)]
            return {"documents": 1200, "levels": [{"code_use": 1.0}], "bytes": {"index": 9600}}

        return method


@pytest.fixture
def calls(monkeypatch):
    """The calls that reached the package: (name, args, kwargs), in order."""
    seen = []

    def note(name, answer=None):
        def function(*args, **kwargs):
            seen.append((name, args, kwargs))
            return answer

        return function

    retriever = FakeRetriever(seen)
    cls = SimpleNamespace(from_pretrained=note("from_pretrained", retriever))
    api = {name: note(name, REPORT) for name in ("quickstart", "train", "evaluate_checkpoint")}
    comparison = SimpleNamespace(
        compare=note("compare", COMPARISON), quality_table=lambda report: "the first table"
    )
    recipes = {"uri": "URI, layer by layer", "uri-sequential": "URI on histories"}
    parts = {"api": SimpleNamespace(**api), "compare": comparison}
    fake(monkeypatch, "hf_genret.training", **parts, __path__=[])
    fake(monkeypatch, "hf_genret.training.api", **api)
    fake(monkeypatch, "hf_genret.training.recipes", list_recipes=lambda: recipes)
    fake(monkeypatch, "hf_genret.retriever", GenRetriever=cls)
    monkeypatch.setattr("hf_genret.data.load_documents", note("load_documents", "documents"))
    return seen


def fake(monkeypatch, name, **content):
    """Puts a module of this content in the place of a real one."""
    module = ModuleType(name)
    module.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, module)

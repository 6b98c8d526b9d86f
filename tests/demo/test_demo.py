"""The page answers whatever is typed; the Space opens with and without a checkpoint."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

from hf_genret.data.schema import Documents
from hf_genret.demo import build_demo, search_table, tiny_retriever
from hf_genret.demo.app import example_queries
from hf_genret.errors import MissingExtraError

SPACE = Path(__file__).resolve().parents[2] / "spaces_app"


@pytest.fixture(scope="module")
def retriever():
    """Four documents, one of them long."""
    texts = ["join two paths", "open a file", "sort a list", "parse json " * 200]
    titles = ["join", "<b>open</b>", "", "loads"]
    return tiny_retriever(Documents(["a", "b", "c", "d"], titles, texts))


@pytest.fixture
def space(monkeypatch):
    """spaces_app/app.py as a module, no checkpoint named."""
    monkeypatch.delenv("GENRET_CHECKPOINT", raising=False)
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_show_title_docid_score_and_snippet(retriever):
    """The best document first, its text cut to a snippet."""
    rows, said = search_table(retriever, "  parse\njson ", 2)
    title, docid, score, snippet = rows[0]
    assert title == "loads" and snippet.startswith("parse json") and snippet.endswith("…")
    assert len(snippet) <= 240 and said == "2 documents."
    (hit, _) = retriever.search("parse json", k=2)
    assert docid == "-".join(map(str, hit.docid)) and score == round(hit.score, 4)
    assert search_table(retriever, "sort list", 1)[0][0][0] == "c", "no title: the id"


@pytest.mark.parametrize("query", ["", "   ", None])
def test_an_empty_query_gets_a_hint(retriever, query):
    """No table, no error."""
    assert search_table(retriever, query) == ([], "Type a query first.")


def test_a_very_long_query_is_cut_and_says_so(retriever, recwarn):
    """100,000 characters: an answer and a sentence on the page, no warning on the console."""
    rows, said = search_table(retriever, "join paths " * 10_000, 1)
    assert rows[0][0] == "join" and "first 2,000 characters" in said
    assert not recwarn.list


def test_examples_come_from_the_documents(retriever):
    """As many as asked for, at most one a document."""
    assert example_queries(retriever, 2) == ["join", "sort a list"]
    assert len(example_queries(retriever, 50)) == 4 and example_queries(retriever, 0) == []


def test_a_model_of_histories_takes_ids(shop):
    """Ids separated by commas; an unknown one is said on the page."""
    rows, said = search_table(shop, "i1, i2")
    assert [row[0] for row in rows] == ["c"] and said == "1 document."
    assert search_table(shop, "i1,<x>") == (
        [],
        "the index holds no document with the id &#x27;&lt;x&gt;&#x27;.",
    )
    assert example_queries(shop, 3) == ["i1", "i2", "i3"]
    pytest.importorskip("gradio")
    assert build_demo(shop) is not None


def test_without_gradio_the_extra_is_named(retriever, monkeypatch):
    """One sentence with the pip line."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"hf-genret\[demo\]"):
        build_demo(retriever)


def test_the_page_answers_over_http(retriever):
    """A search, an empty one and one that is too long, as the page's own client asks them."""
    pytest.importorskip("gradio")
    from gradio_client import Client

    demo = build_demo(retriever)
    demo.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(demo.local_url, verbose=False)
        table, said = client.predict("join paths", 2, api_name="/search")
        assert table["headers"] == ["title", "docid", "score", "snippet"]
        assert table["data"][0][0] == "join" and said == "2 documents."
        table, said = client.predict("", 2, api_name="/search")
        assert table["data"] == [] and said == "Type a query first."
    finally:
        demo.close()


def test_the_space_without_a_checkpoint(space):
    """A tiny retriever over its own texts, which finds them."""
    retriever = space.load_retriever()
    assert retriever.search("join path components", k=1)[0].id == "os.path.join"


def test_the_space_with_a_checkpoint(space, retriever, tmp_path, monkeypatch):
    """The folder that the environment names."""
    retriever.save_pretrained(tmp_path / "out")
    monkeypatch.setenv("GENRET_CHECKPOINT", str(tmp_path / "out"))
    assert space.load_retriever().documents.ids == ["a", "b", "c", "d"]


def test_the_space_builds_its_page(space):
    """A Blocks object with the search in it."""
    gradio = pytest.importorskip("gradio")
    assert isinstance(space.build(), gradio.Blocks)


def test_the_front_matter_of_the_space():
    """What the Hub needs to run it."""
    facts = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert facts["sdk"] == "gradio" and re_exact(facts["sdk_version"])
    assert (SPACE / facts["app_file"]).is_file() and len(facts["short_description"]) <= 60
    needed = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert not [line for line in needed if line.startswith("gradio")]


def re_exact(version):
    """Whether a version is exact, as Spaces want it."""
    return len(str(version).split(".")) == 3 and str(version).replace(".", "").isdigit()

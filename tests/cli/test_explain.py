"""`explain`, `inspect --tree` and `demo` on a checkpoint that is really there."""

from __future__ import annotations

import io
import json
import urllib.request

import pytest

from hf_genret.cli.main import main
from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Four documents under four ids."""
    texts = ["join two paths", "open a file", "sort a list", "parse json text"]
    retriever = tiny_retriever(Documents(["a", "b", "c", "d"], ["", "", "", ""], texts))
    folder = tmp_path_factory.mktemp("explain") / "out"
    retriever.save_pretrained(folder)
    return str(folder)


def test_explain_shows_levels_words_and_score(checkpoint, capsys):
    """Every level with its probability and words; the last line is the score."""
    assert main(["explain", checkpoint, "join paths", "a", "--siblings", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("a\ndocid ") and "number 1 of" in shown
    assert "level 1:" in shown and "level 2:" in shown and "join" in shown and " %" in shown
    assert shown.splitlines()[-1].startswith("similarity ")


def test_explain_as_json(checkpoint, capsys):
    """Standard output is the explanation's values and nothing else."""
    assert main(["explain", checkpoint, "join paths", "a", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["id"] == "a" and found["rank"] == 1 and len(found["steps"]) == 2
    assert 0 < found["steps"][0]["taken"]["probability"] <= 1


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["a"], 2, "give a QUERY before the ID"),
        (["join", "paths", "a"], 2, "one QUERY in quotes"),
        (["join paths", "zz"], 1, "no document with the id 'zz'"),
        (["a", "--history", "b"], 2, "reads text, not histories"),
    ],
)
def test_explain_says_what_is_wrong(checkpoint, capsys, words, status, message):
    """One line and a status."""
    assert main(["explain", checkpoint, *words]) == status
    assert message in capsys.readouterr().err


def test_inspect_shows_the_tree(checkpoint, capsys):
    """Sizes and words of every prefix; as JSON beside the facts."""
    assert main(["inspect", checkpoint, "--tree", "--children", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("all") and "4 documents" in shown and "smaller ones" in shown
    assert main(["inspect", checkpoint, "--tree", "--depth", "1", "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["documents"] == facts["tree"]["documents"] == 4
    assert sum(child["documents"] for child in facts["tree"]["children"]) == 4


def test_inspect_starts_the_tree_at_a_prefix(checkpoint, capsys):
    """Below one code; what is no prefix is said."""
    assert main(["inspect", checkpoint, "--tree", "--prefix", "0", "--depth", "1"]) == 0
    assert capsys.readouterr().out.startswith("0 ")
    assert main(["inspect", checkpoint, "--tree", "--prefix", "7-7"]) == 1
    assert "no docid begins with '7-7'" in capsys.readouterr().err
    assert main(["inspect", checkpoint, "--tree", "--prefix", "a"]) == 2
    assert "codes with - between them" in capsys.readouterr().err


def test_demo_serves_the_page_until_it_is_interrupted(checkpoint, capsys, monkeypatch):
    """The address is printed and answers; Ctrl+C leaves with 130."""
    gradio = pytest.importorskip("gradio")
    seen = []

    def interrupted(page):
        with urllib.request.urlopen(page.local_url, timeout=60) as answer:
            seen.append(answer.status)
        page.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(gradio.Blocks, "block_thread", interrupted)
    assert main(["demo", checkpoint, "--example", "join two paths"]) == 130
    assert "The page: http://127.0.0.1:" in capsys.readouterr().out and seen == [200]


@pytest.fixture(scope="module")
def japanese(tmp_path_factory):
    """Two documents with letters that cp1252 or ASCII lack."""
    documents = Documents(["a", "b"], ["日本語の題", "café 🙂"], ["open a file", "sort a list"])
    folder = tmp_path_factory.mktemp("japanese") / "out"
    tiny_retriever(documents).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of a small encoding in the place of standard output; gives what it shows."""

    def open_terminal(encoding):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        monkeypatch.setattr("sys.stdout", stream)
        return lambda: stream.buffer.getvalue().decode(encoding)

    return open_terminal


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    "words", [["search", "open"], ["explain", "open", "a"], ["inspect", "--tree"]]
)
def test_letters_that_a_terminal_lacks_are_escaped(japanese, narrow, encoding, words):
    """A title in another script is shown by its numbers, and the command ends well."""
    shown = narrow(encoding)
    assert main([words[0], japanese, *words[1:]]) == 0
    assert r"\u65e5\u672c\u8a9e" in shown() or words[0] == "inspect"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_json_stays_json_on_a_narrow_terminal(japanese, narrow, encoding):
    """Escapes of standard output are those of JSON, also beyond the first 65,536 letters."""
    shown = narrow(encoding)
    assert main(["search", japanese, "sort", "--json", "-"]) == 0
    titles = {hit["title"] for hit in json.loads(shown())["hits"]}
    assert titles == {"日本語の題", "café 🙂"}


def test_a_checkpoint_that_reads_text_refuses_a_history(checkpoint, capsys):
    """Both commands name the arguments of the command line, and leave as for wrong usage."""
    assert main(["search", checkpoint, "join", "--history", "b"]) == 2
    assert "give a QUERY, no --history" in capsys.readouterr().err
    assert main(["explain", checkpoint, "--history", "b", "a"]) == 2
    assert "give a QUERY, no --history" in capsys.readouterr().err


def test_a_checkpoint_that_reads_histories_refuses_text(shop, tmp_path, capsys):
    """--history is named, not an argument of Python."""
    shop.save_pretrained(tmp_path / "shop")
    for words in (["search", "a lamp"], ["explain", "a lamp", "i1"]):
        assert main([words[0], str(tmp_path / "shop"), *words[1:]]) == 2
        assert "give --history ID,ID and no QUERY" in capsys.readouterr().err

"""The standard library's documentation and the sentences held out of it."""

from __future__ import annotations

import json

import pytest

from hf_genret.data import Documents, docstrings, load_data, stdlib_data
from hf_genret.data.holdout import first_sentence, hold_out_sentences
from hf_genret.errors import ConfigError, DataError

MODULES = ["json", "os", "shutil", "textwrap"]


@pytest.fixture(scope="module")
def small():
    return stdlib_data(seed=1, test_queries=10, dev_queries=5, modules=MODULES)


def test_small_set(small):
    """Qualified names as titles, two splits, no training queries."""
    assert {"json.dumps", "os.path.join", "shutil.copytree"} <= set(small.documents.titles)
    assert small.documents.ids == sorted(small.documents.ids)
    assert {name: len(queries) for name, queries in small.splits.items()} == {"test": 10, "dev": 5}
    row = small.documents.ids.index("shutil.copytree")
    assert small.documents.extra["signature"][row].startswith("copytree(src, dst, ")


def test_held_out_sentences_are_gone(small):
    """No query stands in the corpus, and no document serves two queries."""
    corpus = " ".join(" ".join(small.documents.full_texts()).lower().split())
    used = []
    for queries in small.splits.values():
        for text, gains in zip(queries.texts, queries.relevant, strict=True):
            assert text.lower().rstrip(".") not in corpus
            assert len(text.split()) >= 4
            used += gains
    assert len(used) == len(set(used)) == 15
    assert all(len(small.documents.texts[row].split()) >= 8 for row in used)


def test_same_seed_same_data(small):
    """A second gathering is the same; another seed chooses other queries."""
    again = stdlib_data(seed=1, test_queries=10, dev_queries=5, modules=MODULES)
    other = stdlib_data(seed=2, test_queries=10, dev_queries=5, modules=MODULES)
    assert again.fingerprint == small.fingerprint != other.fingerprint


def test_gathering_here_and_apart_agree():
    """What the fresh interpreter prints is what gathering in this process finds."""
    here = [entry.name for entry in docstrings.gather(["textwrap"])]
    apart = stdlib_data(test_queries=0, dev_queries=0, modules=["textwrap"])
    assert apart.documents.ids == here and apart.splits == {}


def test_each_text_once():
    """Of several names for one text the shortest stays."""
    entries = docstrings.gather(["os", "json"])
    texts = [" ".join(entry.text.lower().split()) for entry in entries]
    assert len(texts) == len(set(texts))


def test_script_prints_json_lines(capsys):
    """The script tells of imports first, then of entries."""
    docstrings.main(["textwrap"])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0] == {"imported": "textwrap"}
    assert {record["name"] for record in records[1:]} >= {"textwrap.dedent", "textwrap.TextWrapper"}


def test_modules_that_cannot_be_imported_are_passed_over():
    """A machine without a module has fewer documents, not an error, unless none is left."""
    assert docstrings.gather(["no_such_module", "textwrap"])
    with pytest.raises(DataError, match="could not be gathered"):
        stdlib_data(modules=["no_such_module"])


def test_unsafe_modules_are_not_listed():
    """Nothing that prints, opens a window or is private is imported."""
    names = docstrings.module_names()
    assert not {"antigravity", "this", "tkinter", "test"} & set(names)
    assert not any(name.startswith("_") for name in names) and "os" in names


def test_clean_drops_signature_lines():
    """C docstrings that begin with a signature lose it."""
    assert docstrings.clean("f(x[, y]) -> int\n\n    Adds.\n    More.") == "Adds.\nMore."


def test_first_sentence():
    """A full stop before space, or an empty line, ends it; abbreviations do not."""
    assert first_sentence("Reads x.y, e.g. a file.\nThen more.") == (
        "Reads x.y, e.g. a file.",
        "Then more.",
    )
    assert first_sentence("No stop\nhere\n\nRest") == ("No stop here", "Rest")
    assert first_sentence("Only one") == ("Only one", "")


def test_what_is_not_held_out():
    """Sentences that stand elsewhere, are short, leave little, or name the document stay."""
    rest = " One two three four five six seven eight."
    texts = {
        "a.good": "Joins several paths together." + rest,
        "a.twice": "Stands in another document." + rest,
        "a.other": "Something else. Stands in another document, truly." + rest,
        "a.short": "Too short." + rest,
        "a.little": "Leaves hardly any text. Few words.",
        "a.named": "The call named(x) does everything." + rest,
    }
    documents = Documents(list(texts), list(texts), list(texts.values()))
    held, splits = hold_out_sentences(documents, {"test": 1}, seed=0)
    assert splits["test"].texts == ["Joins several paths together."]
    assert held.texts == [rest.strip(), *documents.texts[1:]]
    assert documents.texts[0].startswith("Joins")
    with pytest.raises(ConfigError, match="only 1 of 6"):
        hold_out_sentences(documents, {"test": 1, "dev": 1}, seed=0)


def test_negative_numbers():
    """Sizes and seed below 0 are refused."""
    with pytest.raises(ConfigError, match="0 or more"):
        stdlib_data(test_queries=-1)


def test_by_name(tmp_path, monkeypatch):
    """`stdlib:MODULES` is a part with its own queries; a folder of that name comes first."""
    data = load_data("stdlib:asyncio,logging")
    assert data.name == "stdlib" and data.notes[0] == "Modules: asyncio, logging."
    assert {name: len(queries) for name, queries in data.splits.items()} == {"test": 100, "dev": 60}
    assert {name.split(".")[0] for name in data.documents.ids} == {"asyncio", "logging"}
    with pytest.raises(ConfigError, match="160 queries were asked for"):
        load_data("stdlib:json")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stdlib").mkdir()
    (tmp_path / "stdlib" / "corpus.jsonl").write_text('{"_id": "1", "text": "mine"}\n')
    assert load_data("stdlib").documents.ids == ["1"]

"""What is left out of data is said on standard error, or refused with --strict."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from hf_genret import __version__
from hf_genret.cli.main import main
from hf_genret.cli.output import notes
from hf_genret.data import load_data
from hf_genret.errors import DataWarning
from hf_genret.training.api import reading_words

SAID = "test.tsv: 1 judgments left out, since the corpus lacks their document"


@pytest.fixture
def folder(tmp_path):
    """Two documents, a query, and a judgment of a document that is not there."""
    (tmp_path / "qrels").mkdir()
    documents = [{"_id": "a", "text": "red fox"}, {"_id": "b", "text": "blue whale"}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "fox"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("q\ta\t1\nq\tgone\t1\n")
    return tmp_path


def test_notes_are_lines_of_standard_error(folder, capsys):
    """Each time, and other warnings stay what they are."""
    for _ in range(2):
        with notes():
            load_data(folder)
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err == f"Note: {SAID} (the first: 'gone', line 2).\n"
    with pytest.warns(DeprecationWarning, match="old"), notes():
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_one_process_of_several_says_them(folder, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with notes():
        load_data(folder)
    assert capsys.readouterr().err == ""


def test_outside_of_commands_they_are_warnings(folder):
    with notes():
        pass
    with pytest.warns(DataWarning, match=SAID):
        load_data(folder)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "DATA", "--recipe", "fixed", "--output", "OUT"],
        ["compare", "DATA", "--systems", "bm25", "--output", "OUT"],
        ["study", "DATA", "--output", "OUT", "--list"],
    ],
    ids=lambda words: words[0],
)
def test_strict_refuses_before_any_work(folder, tmp_path, capsys, words):
    place = {"DATA": str(folder), "OUT": str(tmp_path / "out")}
    assert main([*(place.get(word, word) for word in words), "--strict"]) == 1
    assert f"Error: {SAID}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.safetensors"))


def test_reports_keep_how_data_was_read():
    reading = {"corpus_field_map": {"text": "body"}, "streaming": True, "strict": True}
    assert reading_words(reading) == " --columns text=body --streaming --strict"
    assert reading_words({"corpus_field_map": None, "streaming": False, "strict": False}) == ""


def test_the_package_is_the_command():
    """`python -m hf_genret` does what `hf-genret` does."""
    words = [sys.executable, "-m", "hf_genret", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"hf-genret {__version__}\n"


def test_strict_makes_an_error_of_every_note(capsys, monkeypatch):
    """Also of one that no reader of data said; after `--` the word is an argument."""

    def say(args, prog_name):
        warnings.warn("something was left out.", DataWarning, stacklevel=1)

    monkeypatch.setattr("hf_genret.cli.main.app", say)
    assert main(["train", "--strict"]) == 1
    assert capsys.readouterr().err == "Error: something was left out.\n"
    assert main(["search", "out", "--", "--strict"]) == 0
    assert capsys.readouterr().err == "Note: something was left out.\n"

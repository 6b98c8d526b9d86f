"""The commands: what they pass on, what they print, how they leave."""

from __future__ import annotations

import errno
import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from hf_genret import __version__
from hf_genret.cli.main import app, main
from hf_genret.cli.tables import hit_record
from hf_genret.errors import ConfigError, DataError
from hf_genret.hits import Hit

COMMANDS = [
    "quickstart",
    "train",
    "search",
    "index",
    "evaluate",
    "compare",
    "study",
    "demo",
    "explain",
    "inspect",
    "push",
    "card",
    "export",
    "recipes",
]

HELD = {"corpus_field_map": None, "streaming": False, "strict": False}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_json(command):
    """Every command explains itself with examples and offers --json."""
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Examples" in result.output and f"hf-genret {command}" in result.output
    assert "--json" in result.output


def test_version(capsys):
    """--version prints the package's version and leaves with 0."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hf-genret {__version__}\n"


def test_help_starts_fast_and_imports_nothing_heavy():
    """`--help` needs no torch, no transformers and no datasets."""
    code = (
        "import sys; from hf_genret.cli.main import main; main(['--help']);"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules);"
        "print('heavy:', *sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_quickstart_passes_its_options_and_prints_table_and_searches(calls, capsys, tmp_path):
    """Quickstart prints the systems, the example searches and where the checkpoint lies."""
    file = tmp_path / "report.json"
    words = ["quickstart", "--output", str(tmp_path / "out"), "--seed", "3", "--json", str(file)]
    assert main([*words, "--overwrite"]) == 0
    wanted = {"output": tmp_path / "out", "seed": 3, "overwrite": True}
    assert calls == [("quickstart", (), wanted)]
    shown = capsys.readouterr().out
    assert ".612 [.600, .630]" in shown and ".590 [-, -]" in shown
    assert "os.path.join" in shown and "3-7" in shown
    assert str(tmp_path / "out") in shown
    assert json.loads(file.read_text())["systems"]["generative"]["bytes"] == 123456


def test_train_passes_everything_on(calls):
    """Train hands recipe, settings, seed and resume to the package."""
    words = "train data --recipe uri --output out --set a=1 --set b.c=x=y --seed 2 --resume"
    assert main(words.split()) == 0
    ((name, args, kwargs),) = calls
    assert (name, args) == ("train", ())
    assert kwargs["data"] == "data" and kwargs["recipe"] == "uri" and str(kwargs["output"]) == "out"
    assert kwargs["settings"] == ["a=1", "b.c=x=y"]
    assert kwargs["seed"] == 2 and kwargs["resume"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train data --recipe urii --output o", "did you mean 'uri'?"),
        ("train data --recipe zzz --output o", "known are uri, uri-sequential."),
        ("train data --recipe gone.yaml --output o", "there is no recipe file gone.yaml."),
        ("train data --recipe uri --output o --set nonsense", "--set wants KEY=VALUE"),
        ("recipes urii", "did you mean 'uri'?"),
        ("search out", "give a QUERY, a --history, or both."),
        ("search out --history ,", "give a QUERY, a --history, or both."),
        ("evaluate out data --systems bm26", "did you mean 'bm25'?"),
        ("evaluate out data --systems ,", "--systems names no system."),
        ("inspect out --json .", "is a folder"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(calls, capsys, words, message):
    """Wrong usage is met before any work, in one line."""
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("Error: ") and message in shown.err
    assert shown.err.count("\n") == 1
    assert calls == []


@pytest.mark.parametrize("words", ["train", "nosuch", "search out q --k 0", "search out q --no"])
def test_unknown_words_are_status_2(capsys, words):
    """What the parser refuses leaves with 2 as well."""
    assert main(words.split()) == 2


def test_search_with_a_query(calls, capsys):
    """A query goes to search(); rank, docid, id and title are shown."""
    assert main(["search", "out", "join two paths", "--k", "3"]) == 0
    assert calls == [
        ("from_pretrained", ("out",), {}),
        ("search", ("join two paths",), {"k": 3}),
    ]
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "1",
        "0.5000",
        "1-2",
        "d1",
        "A",
        "title",
    ]


def test_search_with_a_history(calls):
    """A history alone goes to recommend()."""
    assert main(["search", "out", "--history", "b, a"]) == 0
    assert calls[1] == ("recommend", (), {"history": ["b", "a"], "k": 10})


def test_search_with_query_and_history(calls):
    """Both together are one search."""
    assert main(["search", "out", "shoes", "--history", "b,a"]) == 0
    assert calls[1] == ("search", ("shoes",), {"k": 10, "history": ["b", "a"]})


def test_json_on_standard_output_stands_alone(calls, capsys):
    """With --json - standard output is the JSON and nothing else."""
    assert main(["search", "out", "q", "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "query": "q",
        "history": None,
        "k": 10,
        "hits": [{"id": "d1", "score": 0.5, "docid": [1, 2], "title": "A title", "text": "words"}],
    }
    assert "A title" in shown.err


def test_a_hit_as_json_has_the_other_columns():
    """With their types, in a part of their own, so that none can hide a score."""
    document = {"id": "d", "title": "", "text": "x", "score": "high", "price": 4.5, "sold": False}
    hit = Hit("d", 0.5, (1, 2), document)
    assert hit_record(hit) == {
        "id": "d",
        "score": 0.5,
        "docid": [1, 2],
        "text": "x",
        "extra": {"score": "high", "price": 4.5, "sold": False},
    }


def test_index_loads_indexes_saves(calls, tmp_path):
    """Index reads the documents, gives them ids and saves beside the old checkpoint."""
    assert main(["index", "out", "docs.jsonl", "--output", str(tmp_path / "new")]) == 0
    assert [name for name, _, _ in calls] == [
        "from_pretrained",
        "load_documents",
        "index",
        "save_pretrained",
        "describe",
    ]
    assert calls[2][1] == ("documents",) and calls[3][1] == (tmp_path / "new",)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train", "data", "--recipe", "uri", "--output", "new"], "train"),
        (["evaluate", "out", "data"], "evaluate_checkpoint"),
        (["compare", "data", "--systems", "uri", "--output", "new"], "compare"),
        (["index", "out", "docs.jsonl", "--output", "new"], "load_documents"),
    ],
)
def test_how_data_is_read_reaches_the_loader(calls, capsys, words, name):
    """Every command that loads data maps columns and streams; a wrong map is wrong usage."""
    read = {"corpus_field_map": {"text": "body", "title": "name"}, "streaming": True}
    read["strict"] = True
    options = ["--columns", "text=body, title=name", "--streaming", "--strict"]
    assert main([*words, *options]) == 0
    (kwargs,) = (kwargs for called, _, kwargs in calls if called == name)
    assert kwargs.get("reading", kwargs) == read
    for wrong in ("text", "text=", "=body", "text=a,,title=b", "text=a,text=b"):
        assert main([*words, "--columns", wrong]) == 2
        assert "--columns" in capsys.readouterr().err


def test_evaluate_names_its_systems(calls, capsys):
    """Evaluate passes split and systems on, each system once."""
    assert (
        main([*["evaluate", "out", "data", "--split", "dev", "--systems"], "bm25,generative,bm25"])
        == 0
    )
    assert calls == [
        (
            "evaluate_checkpoint",
            ("out", "data", "dev"),
            {"systems": ["bm25", "generative"], "vectors": None, "reading": HELD},
        )
    ]
    assert "tiny (f00d), test" in capsys.readouterr().out


def test_compare_passes_everything_on(calls, capsys, tmp_path):
    """Compare hands systems, seeds, settings and sizes to the package and shows the first table."""
    out, file = tmp_path / "out", tmp_path / "report.json"
    words = ["compare", "data", "--systems", "uri,bm25", "--output", str(out), "--seeds", "3"]
    words += ["--set", "a=1", "--set", "b.c=2", "--baseline", "bm25", "--split", "dev"]
    assert (
        main(
            [
                *words,
                "--sizes",
                "4x4",
                "--fusion",
                "weighted",
                "--repeat",
                "uri",
                "--preset",
                "uri-table1",
                "--json",
                str(file),
            ]
        )
        == 0
    )
    ((name, args, kwargs),) = calls
    assert (name, args) == ("compare", ("data", "uri,bm25", 3))
    assert kwargs.pop("tell")("a line") is None
    assert kwargs == {
        "output": out,
        "settings": ["a=1", "b.c=2"],
        "baseline": "bm25",
        "split": "dev",
        "reading": HELD,
        "overwrite": False,
        "sizes": "4x4",
        "fusion": "weighted",
        "repeat": "uri",
        "preset": "uri-table1",
    }
    shown = capsys.readouterr().out
    assert "the first table" in shown and str(out / "report.md") in shown
    assert json.loads(file.read_text())["systems"] == {"uri": {}}


def test_compare_help_names_every_preset(capsys):
    """As the files say them."""
    from hf_genret.training.compare.presets import list_presets

    assert main(["compare", "--help"]) == 0
    shown = capsys.readouterr().out
    assert list_presets() and all(name in shown for name in list_presets())


def test_compare_leaves_with_1_when_a_system_failed(calls, monkeypatch, capsys):
    """The others are shown all the same, the failed one with its sentence."""
    failed = [{"system": "uri", "seed": 1, "error": "no luck"}]
    report = {"systems": {"bm25": {}}, "failed": failed}
    comparison = sys.modules["hf_genret.training"].compare
    monkeypatch.setattr(comparison, "compare", lambda *args, **kwargs: report)
    assert main(["compare", "data", "--systems", "uri,bm25", "--output", "o"]) == 1
    shown = capsys.readouterr().out
    assert "the first table" in shown and "Failed: uri, seed 1: no luck" in shown


def test_inspect_shows_facts_and_plots(calls, capsys, tmp_path):
    """Inspect prints nested facts and draws where asked."""
    plot = tmp_path / "tokens.png"
    assert main(["inspect", "out", "--plot", str(plot)]) == 0
    assert calls[-1] == ("plot", (plot,), {})
    shown = capsys.readouterr().out
    assert "documents: 1,200" in shown and "  index: 9,600" in shown
    assert "levels\n  - code use 1" in shown


def test_recipes_lists_names_and_descriptions(calls, capsys):
    """Recipes prints one line a recipe."""
    assert main(["recipes"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split(maxsplit=1) == [
        "uri",
        "URI, layer by layer",
    ]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("not JSON.", path="c.jsonl", line=7), 1, "Error: c.jsonl, line 7: not JSON."),
        (ConfigError("unknown key 'lr'."), 2, "Error: unknown key 'lr'."),
        (OSError(errno.ENOSPC, "No space left on device", "o"), 1, "Error: o: No space left on"),
        (OSError("two\nlines"), 1, "Error: two lines"),
        (ValueError(), 1, "Error: ValueError"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_one_line(calls, monkeypatch, capsys, error, status, line):
    """What goes wrong in a command is one line on standard error and a status."""
    raise_from_training(monkeypatch, error)
    assert main(["quickstart"]) == status
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.strip().startswith(line)
    assert shown.err.count("\n") <= 1


@pytest.mark.parametrize("words", [["--debug", "quickstart"], ["quickstart", "--debug"]])
def test_debug_shows_the_traceback(calls, monkeypatch, words):
    """With --debug, before or after the command, the exception comes through."""
    raise_from_training(monkeypatch, DataError("bad."))
    with pytest.raises(DataError):
        main(words)


def test_exit_status_of_the_process(tmp_path):
    """The installed command's status and single line, from a process of its own."""
    command = [sys.executable, "-m", "hf_genret.cli.main"]
    done = subprocess.run(
        [*command, "inspect", str(tmp_path), "--json", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"Error: {tmp_path} is a folder; a file name or - was expected.\n"


def raise_from_training(monkeypatch, error):
    """Makes every call of quickstart() end with this error."""

    def fail(**_):
        raise error

    monkeypatch.setattr(sys.modules["hf_genret.training"].api, "quickstart", fail)

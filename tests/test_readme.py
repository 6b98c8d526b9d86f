"""What README.md shows is run as it stands there: snippets, command lines, names and links."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from hf_genret import GenRetriever, GenRetTrainer, GenRetTrainingArguments
from hf_genret.adapters import Base, merge_lora, save_adapter, take_lora
from hf_genret.cli.main import app
from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.errors import ConfigError
from hf_genret.training.compare.names import known_systems, parse_sizes, parse_systems
from hf_genret.training.compare.presets import parse_presets
from hf_genret.training.given import FROM_DATA, GIVEN
from hf_genret.training.lora import LoraSettings, add_lora
from hf_genret.training.recipes import list_recipes, load_recipe, variants
from hf_genret.training.study.grid import FACTORS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS: Any = typer.main.get_command(app)
LAUNCHED = "hf_genret.training.train"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def section(title: str) -> str:
    """What stands below a heading."""
    return re.split(r"^#+ ", README.split(f" {title}\n", 1)[1], flags=re.MULTILINE)[0]


def rows(head: str) -> list[list[str]]:
    """The cells of a table, by its first line."""
    below = README.split(head + "\n", 1)[1].splitlines()[1:]
    end = next(n for n, line in enumerate(below) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in below[:end]]


def words_of(line: str) -> list[str]:
    """A command line as a shell splits it, after the program; empty for other programs."""
    words = shlex.split(line, comments=True)
    if words[:2] == ["accelerate", "launch"] or LAUNCHED in words:
        return ["train", *words[words.index(LAUNCHED) + 1 :]]
    return words[1:] if words and words[0] == "hf-genret" else []


def command_lines() -> Iterator[str]:
    """Each command line of the package: in shell blocks, and in prose and tables."""
    for block in blocks("bash"):
        yield from filter(words_of, block.replace("\\\n", " ").splitlines())
    prose = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    for span in spans(prose):
        if re.match(r"hf-genret \w", span):
            yield span.replace("[NAME]", "")


def parsed(words: list[str]) -> click.Context:
    """A command's arguments as its own parser reads them; nothing is run.

    Raises:
        click.UsageError: An unknown command or option, or arguments that are missing.
    """
    with COMMANDS.make_context("hf-genret", list(words), resilient_parsing=True) as context:
        name, command, rest = COMMANDS.resolve_command(context, list(words))
        return command.make_context(name, rest, parent=context)


def options_of(name: str) -> set[str]:
    """The options of a command."""
    return {option for each in COMMANDS.commands[name].params for option in each.opts}


LINES = sorted(set(command_lines()))


def test_there_is_something_to_check():
    """The README is read as it is written."""
    assert len(blocks("python")) >= 5 and len(LINES) >= 30
    assert {words_of(line)[0] for line in LINES} == set(COMMANDS.commands)


# ---- command lines --------------------------------------------------------------------------


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_understood(line):
    """By the command's own parser; its recipe takes its settings, its systems are known."""
    words = words_of(line)
    if len(words) == 1:  # a command by its name alone
        assert words[0] in COMMANDS.commands
        return
    found = parsed(words).params
    if found.get("recipe") not in (None, "NAME"):
        load_recipe(found["recipe"], found["settings"])
    if found.get("systems"):
        assert parse_systems(found["systems"].replace("NAME", "uri").replace("...", ""))
    if found.get("preset"):
        assert parse_presets(found["preset"])
    if found.get("factors"):
        assert set(found["factors"].split(",")) <= set(FACTORS)


def test_options_named_beside_a_command_are_its_own():
    """`also --history`, `--vectors int8`, and whatever a row of the table names."""
    for command, says in rows("| command | what it does |"):
        name = spans(command)[0].split()[1]
        named = [span.split()[0] for span in spans(says) if span.startswith("--")]
        assert set(named) <= options_of(name) | {"--json"}, name


def test_every_command_has_its_row():
    """And takes `--json`, as is said below the table."""
    listed = {spans(row[0])[0].split()[1] for row in rows("| command | what it does |")}
    assert listed == set(COMMANDS.commands)
    assert all("--json" in options_of(name) for name in listed)


def test_data_options_are_where_the_readme_says():
    """The sentence that names the commands with `--columns`, `--streaming` and `--strict`."""
    text = " ".join(README.split())
    said = r"((?:`\w+`(?:, | and )?)+) take `--columns`, `--streaming` and `--strict`"
    names = spans(re.search(said, text)[1])
    assert len(names) > 4
    for name in names:
        assert {"--columns", "--streaming", "--strict"} <= options_of(name)


def test_commands_that_replace_are_those_the_readme_names():
    """The sentence about `--overwrite` names every command that has it, and no other."""
    text = " ".join(README.split())
    names = spans(re.search(r"((?:`\w+`(?:, | and )?)+) replace a checkpoint", text)[1])
    having = {name for name in COMMANDS.commands if "--overwrite" in options_of(name)}
    assert set(names) == having


def test_options_in_prose_exist():
    """Every option that a code span begins with is one of some command, or of make's or pip's."""
    known = set().union(*(options_of(name) for name in COMMANDS.commands)) | {"--debug"}
    named = {span.split()[0] for span in spans(README) if span.startswith("--")}
    assert named - known == set()


# ---- recipes, systems, settings -------------------------------------------------------------


def test_the_table_of_methods_names_every_recipe():
    """And only recipes; those of sequences and users stand elsewhere."""
    methods = rows("| recipe | where ids come from | of its own |")
    listed = {name for row in methods for name in spans(row[0])}
    assert listed <= set(list_recipes())
    assert all(f"`{name}`" in README or f" {name} " in README for name in list_recipes())


def test_named_variants_exist():
    """`recipe:variant` in prose, and the recipes of which a variant is said."""
    pairs = re.findall(r"(?:--recipe |`)([a-z+-]+):(\w+)[` ]", README)
    named = [(recipe, variant) for recipe, variant in pairs if recipe in list_recipes()]
    assert ("dgi", "diger") in named and ("uri", "no_adaptive_weight") in named
    for recipe, variant in named:
        if recipe != "fixed" or variant not in {*GIVEN, *FROM_DATA}:
            assert variant in variants(recipe), (recipe, variant)
    sentence = re.search(r"((?:`[\w+]+`(?:, | and )?)+) have a variant\s+`query_aware`", README)
    assert spans(sentence[1])
    assert all("query_aware" in variants(name) for name in spans(sentence[1]))


def test_given_ids_exist():
    """Those of the row `fixed`, and no more are left out than those of other recipes."""
    row = next(r for r in rows("| recipe | where ids come from | of its own |") if "fixed" in r[0])
    named = {span.split(":")[0] for span in spans(row[1]) if not span.startswith("--")}
    assert named <= {*GIVEN, *FROM_DATA} and len(named) > 8


@pytest.mark.parametrize(
    "setting", sorted({*re.findall(r"--set ([\w.]+=[\w.]+)", README)} - {"key=value"})
)
def test_a_setting_is_known(setting):
    """Some recipe takes it."""

    def takes(name: str) -> bool:
        try:
            load_recipe(name, [setting])
        except ConfigError:
            return False
        return True

    assert any(takes(name) for name in list_recipes())


def test_systems_in_prose_are_understood():
    """Fusions, sizes, and ids of another system."""
    known = known_systems()
    named = [
        span
        for span in spans(section("Compare"))
        if any(span.startswith(name) and span[len(name) :][:1] in set("@+:") for name in known)
    ]
    named += [span for span in spans(section("Compare")) if span.startswith("ids:")]
    assert {"uri+bm25", "uri@16x16", "dsi:index_from=uri", "ids:rq@16x16"} <= set(named)
    assert len(parse_systems(named)) == len(set(named))
    presets = [span for span in spans(section("Compare")) if span.startswith("uri-table")]
    assert parse_presets(sorted(set(presets)))
    sizes = re.search(r"`--sizes ([\dx,]+)`", README)[1]
    assert len(parse_sizes(sizes)) == 3


def test_similarities_of_the_dense_recipe():
    """Those of its row."""
    row = next(r for r in rows("| recipe | where ids come from | of its own |") if "dense" in r[0])
    for similarity in spans(row[2]):
        load_recipe("dense", [f"model.ranker_similarity={similarity}"])


# ---- Python ---------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The names that the snippets use, as folders here: checkpoints, an adapter and its base."""
    ids = ["os.path.join", *(f"name.of.number{number}" for number in range(23))]
    texts = ["join two paths", *(f"words of theme {n % 8} and of {n}" for n in range(23))]
    retriever = tiny_retriever(Documents(ids, ids, texts), codebook_sizes=[8, 3])
    monkeypatch.chdir(tmp_path)
    for name in ("genret-stdlib", "base"):
        retriever.save_pretrained(name)
    shutil.copytree("base", "me/my-genret")
    shutil.copytree("base", "where/it/is/now")
    add_lora(retriever.model, LoraSettings(r=2, part="model"))
    lora = take_lora(retriever.model)
    merge_lora(retriever.model)
    save_adapter("adapter", retriever, lora, Base("checkpoint", "base"))


def test_the_snippets_run_one_after_another(folders, monkeypatch, capsys):
    """In one session, as a reader does; only the upload is replaced, its arguments are not."""
    real, pushed = inspect.signature(GenRetriever.push_to_hub), []

    def push(self, *args, **kwargs):
        real.bind(self, *args, **kwargs)
        pushed.append(args)

    monkeypatch.setattr(GenRetriever, "push_to_hub", push)
    session: dict[str, object] = {}
    for number, source in enumerate(blocks("python"), start=1):
        if "out/adapter" in source:
            shutil.copytree("adapter", "out/adapter", dirs_exist_ok=True)
        exec(compile(source, f"README.md, python block {number}", "exec"), session)
    assert pushed == [("me/my-genret",)]
    assert "os.path.join" in capsys.readouterr().out
    assert GenRetriever.from_pretrained("merged").search("join two paths", k=1)


def test_the_table_of_the_api_names_what_exists():
    """Methods, with the arguments shown."""
    for row in rows("| name | what it does |"):
        for span in spans(row[0]):
            name = re.match(r"(?:GenRetriever)?\.(\w+)\((.*)\)", span)
            if name:
                method = inspect.signature(getattr(GenRetriever, name[1]))
                shown = [word.split("=")[0].strip() for word in name[2].split(",") if "=" in word]
                assert set(shown) <= set(method.parameters), span
    assert hasattr(GenRetTrainer, "push_to_hub")
    assert "only" in inspect.signature(GenRetriever.search).parameters
    arguments = re.findall(r"`GenRetTrainingArguments\((\w+)=", README)
    assert set(arguments) <= {field.name for field in fields(GenRetTrainingArguments)} and arguments


# ---- files ----------------------------------------------------------------------------------


def test_links_lead_somewhere():
    """Every relative link and picture."""
    targets = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    assert targets and all((ROOT / target).exists() for target in targets)


def test_make_targets_exist():
    """In the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert named and named <= targets


def test_extras_are_those_of_the_package():
    """Each with its row."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {spans(row[0])[0] for row in rows("| extra | for |")} == set(
        project["optional-dependencies"]
    )


def test_launch_files_exist():
    """Those of the command lines."""
    named = set(re.findall(r"training/launch/[\w.]+", README))
    assert {"training/launch/zero2.json"} < named
    assert all((ROOT / name.rstrip(".")).exists() for name in named)

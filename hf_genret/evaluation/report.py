"""The one JSON shape of every report, and its tables."""

from __future__ import annotations

import json
import math
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from hf_genret.data.schema import RetrievalData
from hf_genret.files import atomic_write_text

SYSTEMS = (
    "generative",
    "unconstrained",
    "kmeans",
    "rq",
    "dense",
    "dense_untrained",
    "bm25",
    "cooccurrence",
    "popularity",
    "random",
)
"""Names of systems in reports, in the order of tables; others follow by name."""

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "numpy",
    "bm25s",
    "faiss-cpu",
)


def versions() -> dict[str, str]:
    """Versions of the interpreter, this package and what the figures depend on.

    Returns:
        Package name -> version; packages that are not installed are left out.
    """
    from hf_genret import __version__

    found = {"hf_genret": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def scrub_command(argv: Sequence[str], replacements: Mapping[str, str]) -> str:
    """The command as others can run it, without the paths of this machine.

    Args:
        argv: Arguments, the program first (its folder is dropped).
        replacements: Path -> placeholder, for example `{"/data/scifact": "DATA"}`. A path is
            replaced where it is a whole argument, a value after `=`, or their leading folder.

    Returns:
        A shell command line. Paths that no replacement names become PATH when they are absolute
        or lead out of the working folder.
    """
    places = {_plain_path(path): placeholder for path, placeholder in replacements.items() if path}
    words = [Path(argv[0]).name] if argv else []
    for argument in argv[1:]:
        name, equals, value = argument.rpartition("=")
        words.append(f"{name}{equals}{_scrub_value(value, places)}")
    return shlex.join(words)


def _plain_path(path: str) -> str:
    """A path without a trailing slash or a leading `./`."""
    return re.sub(r"^(\./)+", "", path.rstrip("/")) or path


def _scrub_value(value: str, places: Mapping[str, str]) -> str:
    """One argument with a known path replaced, or PATH when it is a path of this machine."""
    plain = _plain_path(value)
    for known in sorted(places, key=len, reverse=True):
        for form in (known, str(Path(known).absolute())):
            if plain == form:
                return places[known]
            if plain.startswith(form + "/"):
                return places[known] + plain[len(form) :]
    return "PATH" if re.match(r"/|~|\.\./|\.\.$|[A-Za-z]:[\\/]", value) else value


def report(
    data: RetrievalData,
    split: str,
    command: str,
    seed: int,
    seconds: float,
    systems: Mapping[str, Mapping[str, Any]],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that has to stand beside the figures.

    Args:
        data: What was searched.
        split: Name of the split that was measured.
        command: The command, without paths (`scrub_command`).
        seed: Seed of the whole run.
        seconds: Wall-clock seconds of the whole run.
        systems: System name -> result of `evaluate_run`.
        extra: Further parts by name (for example `index` or `ape`).

    Returns:
        `{"data", "split", "command", "versions", "seed", "seconds", "systems", **extra}`, ready
        for JSON: NaN is None, numpy values are Python's.

    Raises:
        ValueError: When `extra` names a part that every report has.
    """
    whole: dict[str, Any] = {
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "documents": len(data.documents),
            "queries": len(data.splits.get(split, ())),
            "notes": list(data.notes),
        },
        "split": split,
        "command": command,
        "versions": versions(),
        "seed": seed,
        "seconds": round(seconds, 3),
        "systems": dict(systems),
    }
    clash = sorted(whole.keys() & (extra or {}).keys())
    if clash:
        raise ValueError(f"extra parts may not replace {', '.join(clash)}.")
    return plain({**whole, **(extra or {})})


def plain(value: Any) -> Any:
    """A value as JSON knows it: no numpy, no NaN, string keys."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_report(report: Mapping[str, Any], path: str | Path) -> None:
    """Write a report as JSON.

    Args:
        report: What `report` gave, or any part of it.
        path: A file, written whole or not at all; `-` is standard output, where letters that its
            encoding lacks are escaped as JSON escapes them.

    Raises:
        OSError: When the file cannot be written; an old one is then untouched.
    """
    to_stdout = str(path) == "-"
    text = _json(report, (to_stdout and sys.stdout.encoding) or "utf-8")
    if to_stdout:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        atomic_write_text(path, text)


def _json(report: Mapping[str, Any], encoding: str) -> str:
    """JSON in letters that an encoding has."""
    settings: dict[str, Any] = {"indent": 2, "allow_nan": False}
    text = json.dumps(plain(report), ensure_ascii=False, **settings) + "\n"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(plain(report), ensure_ascii=True, **settings) + "\n"
    return text


def _number(value: float | None, digits: int) -> str:
    """A number as tables show it, `-` when it is not known."""
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _share(value: float | None) -> str:
    """A number from 0 to 1 with three digits and no leading zero: the table has 80 columns."""
    return re.sub(r"^0\.", ".", _number(value, 3))


def _mean(metrics: Mapping[str, Any], name: str) -> str:
    return _share((metrics.get(name) or {}).get("mean"))


def _ndcg(metrics: Mapping[str, Any]) -> str:
    entry = metrics.get("ndcg@10") or {}
    if not entry:
        return "-"
    low, high = _share(entry.get("low")), _share(entry.get("high"))
    return f"{_share(entry.get('mean'))} [{low}, {high}]"


def _size(count: float | None) -> str:
    return "-" if count is None else _number(count / 1e6, 1)


def columns() -> list[str]:
    """Headings of the tables."""
    return [
        "system",
        "nDCG@10 [95 %]",
        "R@10",
        "R@100",
        "MRR@10",
        "cand. recall",
        "docs ranked",
        "ms/query",
        "MB",
    ]


def table_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Cells of the tables, one row a system.

    Args:
        report: What `report` gave.

    Returns:
        As many strings a row as `columns` has; `-` where a figure is not known.
    """
    order = {name: place for place, name in enumerate(SYSTEMS)}
    rows = []
    for name in sorted(report["systems"], key=lambda name: (order.get(name, len(order)), name)):
        system = report["systems"][name]
        metrics = system.get("metrics") or {}
        candidates = {"candidate_recall": system.get("candidate_recall")}
        rows.append(
            [
                name,
                _ndcg(metrics),
                *(_mean(metrics, metric) for metric in ("recall@10", "recall@100", "mrr@10")),
                _mean(candidates, "candidate_recall"),
                _number(system.get("documents_ranked"), 0),
                _number(system.get("latency_ms"), 2),
                _size(system.get("bytes")),
            ]
        )
    return rows


def title(report: Mapping[str, Any]) -> str:
    """One line that says what was measured."""
    data = report["data"]
    return (
        f"{data['name']} ({data['fingerprint']}), {report['split']}: "
        f"{data['queries']:,} queries, {data['documents']:,} documents, seed {report['seed']}"
    )


def notes(report: Mapping[str, Any]) -> list[str]:
    """What has to be said under the table: notes of the data, then of each system, once each."""
    said = list(report["data"].get("notes", ()))
    for name, system in report["systems"].items():
        said += [f"{name}: {note}" for note in system.get("notes", ())]
    return list(dict.fromkeys(said))


def table(report: Mapping[str, Any]) -> Table:
    """The report as a table for the terminal.

    Args:
        report: What `report` gave.
    """
    caption = escape("\n".join(notes(report))) or None
    result = Table(
        title=escape(title(report)),
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,  # the box itself parts the columns by one space
        show_edge=False,
    )
    for heading in columns():
        first, cell = heading == "system", heading.replace(" ", "\n", 1).replace("/", "/\n")
        result.add_column(cell, justify="left" if first else "right", no_wrap=True)
    for row in table_rows(report):
        result.add_row(*map(escape, row))
    return result


def markdown_table(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table, for cards and documentation.

    Args:
        report: What `report` gave.
    """
    rule = [":--", *["--:" for _ in columns()[1:]]]
    lines = [columns(), rule, *table_rows(report)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

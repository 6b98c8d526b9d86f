"""Tables of a comparison: quality, groups of queries, ids and costs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from hf_genret.evaluation.frequency import HEAD_TO_TAIL

Facts = Mapping[str, Any]
_SHOWN = {"ndcg@10": "nDCG@10", "recall@10": "R@10", "recall@100": "R@100", "mrr@10": "MRR@10"}
_SEEN = {"seen": "seen documents", "unseen": "unseen documents", "mixed": "mixed"}


@dataclass
class Column:
    """One column of a table.

    Attributes:
        heading: What stands above it.
        cell: A system's figures -> what it shows.
    """

    heading: str
    cell: Callable[[Facts], str]


def share(value: Any, digits: int = 3) -> str:
    """A number from 0 to 1 without its leading zero."""
    return re.sub(r"^(-?)0\.", r"\1.", number(value, digits))


def number(value: Any, digits: int = 0) -> str:
    """A number, `-` where it is not known."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """A share as a whole percentage."""
    return f"{100 * value:.0f} %"


def find(facts: Facts | None, *path: str) -> Any:
    """What stands at a path of keys; None where there is nothing."""
    place: Any = facts
    for key in path:
        if not isinstance(place, Mapping):
            return None
        place = place.get(key)
    return place


def quality_columns(report: Facts) -> list[Column]:
    """Metrics of the whole split, and how sure they are."""
    metric = report["metric"]
    others = [name for name in ("ndcg@10", "recall@10", "recall@100", "mrr@10") if name != metric]
    columns = [
        Column(f"{_SHOWN[metric]} [95 %]", lambda facts: _interval(find(facts, "metrics", metric)))
    ]
    if len(report["seeds"]) > 1:
        columns.append(Column("seeds", lambda facts: _spread(find(facts, "metrics", metric))))
    columns += [Column(_SHOWN[name], _mean("metrics", name)) for name in others]
    columns += [
        Column("candidate recall", _mean("candidate_recall")),
        Column("documents ranked", lambda facts: number(facts["documents_ranked"])),
    ]
    pool = find(report, "equal_pool", "documents")
    if pool is not None:
        columns += [
            Column(f"candidate recall of {pool:,}", _mean("equal_pool", "candidate_recall")),
            Column(f"nDCG@10 of {pool:,}", _mean("equal_pool", "ndcg@10")),
        ]
    if report.get("baseline"):
        place = ("against_baseline", metric)
        columns += [
            Column("ratio", lambda facts: number(find(facts, *place, "ratio"), 2)),
            Column("p", lambda facts: p_value(find(facts, *place, "p"))),
        ]
    return columns


def group_columns(report: Facts) -> list[Column]:
    """The main metric of seen and unseen documents, and from head to tail."""
    metric = report["metric"]
    first: Facts = next(iter(report["systems"].values()), {})
    columns = []
    places: list[tuple[tuple[str, ...], str]] = [((name,), label) for name, label in _SEEN.items()]
    places += [(("frequency", name), name) for name in HEAD_TO_TAIL]
    places += [
        (("frequency5", name), f"{name}× in training") for name in first.get("frequency5", ())
    ]
    for place, label in places:
        queries = find(first, *place, "queries")
        if queries:
            heading = f"{label} ({queries:,})"
            columns.append(Column(heading, _mean(*place, "metrics", metric)))
    contents = [name for name in ("existing", "new_content", "new_semantic") if "content" in first]
    for name in contents:
        heading = name.replace("_", " ")
        columns.append(Column(heading, _mean("content", name, "metrics", metric)))
    return columns


def id_columns(report: Facts) -> list[Column]:
    """Docid quality, and what ids alone find."""
    metric = report["metric"]
    return [
        Column("codes", lambda f: "×".join(map(str, find(f, "ids", "codebook_sizes") or ["-"]))),
        Column("codes used", _levels("share_used", percent)),
        Column("balance by level", _levels("balance", share)),
        Column("balance of leaves", lambda f: share(find(f, "ids", "buckets", "balance"))),
        Column("leaves used", lambda f: number(find(f, "ids", "buckets", "used"))),
        Column("largest leaf", lambda f: number(find(f, "ids", "buckets", "size", "max"))),
        Column("share their id", _duplicates),
        Column("APE of leaves (random)", _ape("leaf")),
        Column("APE of level 1 (random)", _ape("level_1")),
        Column("loss by level (even)", _losses),
        Column(f"ids alone, {_SHOWN[metric]}", _mean("expectation", metric)),
        Column("ids alone, R@100", _mean("expectation", "recall@100")),
        Column("R@10 in buckets", _mean("bucket", "bucket_recall@10")),
        Column("warnings", lambda facts: str(len(facts["warnings"]))),
    ]


def cost_columns(report: Facts) -> list[Column]:
    """Time and bytes."""
    del report
    millions = 1e6
    return [
        Column("ms/query, 64 at once", lambda f: number(find(f, "costs", "latency_ms"), 2)),
        Column("ms/query alone", lambda f: number(find(f, "costs", "latency_alone_ms"), 2)),
        *(
            Column(f"MB {label}", _scaled(f"{name}_bytes", millions))
            for name, label in (("index", "index"), ("vector", "vectors"), ("weight", "weights"))
        ),
        Column("training s", lambda f: number(find(f, "costs", "training_seconds"))),
    ]


SECTIONS: dict[str, Callable[[Facts], list[Column]]] = {
    "Quality": quality_columns,
    "Groups of queries": group_columns,
    "Ids": id_columns,
    "Costs": cost_columns,
}


def section(report: Facts, title: str) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of one table; systems that it says nothing of are left out.

    Ids by themselves have rows in the table of ids alone.

    Args:
        report: What `compare` gave.
        title: A key of `SECTIONS`.
    """
    columns = SECTIONS[title](report)
    systems = dict(report["systems"])
    if title == "Ids":
        systems |= report.get("only_ids", {})
    rows = []
    for name, facts in systems.items():
        cells = [column.cell(facts) for column in columns]
        if title != "Ids" or "ids" in facts:
            rows.append([name, *cells])
    return ["system", *(column.heading for column in columns)], rows


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Headings and cells as a Markdown table, names to the left and figures to the right."""
    rule = [":--", *["--:" for _ in headings[1:]]]
    lines = [list(headings), rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quality_table(report: Facts) -> Table:
    """The first table, for the terminal."""
    headings, rows = section(report, "Quality")
    result = Table(title=escape(title_of(report)), box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in headings:
        first = heading == "system"
        result.add_column(
            escape(heading.replace(" ", "\n", 1)),
            justify="left" if first else "right",
            no_wrap=True,
        )
    for row in rows:
        result.add_row(*map(escape, row))
    return result


def title_of(report: Facts) -> str:
    """One line that says what was measured."""
    data, seeds = report["data"], len(report["seeds"])
    return (
        f"{data['name']} ({data['fingerprint']}), {report['split']}: {data['queries']:,} queries, "
        f"{data['documents']:,} documents, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    )


def _mean(*path: str) -> Callable[[Facts], str]:
    return lambda facts: share(find(facts, *path, "mean"))


def _interval(entry: Facts | None) -> str:
    if not entry:
        return "-"
    return f"{share(entry['mean'])} [{share(entry['low'])}, {share(entry['high'])}]"


def _spread(entry: Facts | None) -> str:
    """± one standard deviation, or from lowest to highest where there are two seeds."""
    spread = find(entry, "spread")
    if not spread:
        return "-"
    if "std" in spread:
        return f"± {share(spread['std'])}"
    return f"{share(spread['min'])} to {share(spread['max'])}"


def p_value(value: float | None) -> str:
    """The p of a test, `-` where there is none."""
    return "-" if value is None else "< .001" if value < 0.001 else share(value)


def _levels(name: str, show: Callable[[Any], str]) -> Callable[[Facts], str]:
    def cell(facts: Facts) -> str:
        levels: Sequence[Facts] = find(facts, "ids", "levels") or ()
        return " ".join(show(level[name]) for level in levels) or "-"

    return cell


def _duplicates(facts: Facts) -> str:
    shared = find(facts, "ids", "buckets", "duplicate_ids")
    total = find(facts, "ids", "documents")
    return percent(shared / total) if total else "-"


def _losses(facts: Facts) -> str:
    levels: Sequence[Facts] = find(facts, "ids", "query_loss") or ()
    return (
        " ".join(f"{number(level['loss'], 2)} ({number(level['even'], 2)})" for level in levels)
        or "-"
    )


def _ape(level: str) -> Callable[[Facts], str]:
    def cell(facts: Facts) -> str:
        found = find(facts, "ids", "ape", level)
        return "-" if not found else f"{number(found['ape'], 3)} ({number(found['random'], 3)})"

    return cell


def _scaled(name: str, unit: float) -> Callable[[Facts], str]:
    def cell(facts: Facts) -> str:
        value = find(facts, "costs", name)
        return "-" if value is None else number(value / unit, 1)

    return cell

"""Reports, hits and facts as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

if TYPE_CHECKING:
    from hf_genret.cli.output import Output

TITLE_WIDTH = 60


def show_report(output: Output, report: Mapping[str, Any]) -> None:
    """Print what a report has: stages of training, the table of systems, and what belongs to it.

    Notes of the data stand under the table, or where it would stand.

    Args:
        output: Where to print.
        report: What `hf_genret.evaluation.report.report` gave, or a report without systems.
    """
    for stage in report.get("stages", ()):
        facts = {key: value for key, value in stage.items() if key not in ("stage", "history")}
        output.console.print(escape(f"{stage['stage']}: {_fact(facts)}"))
    if not report.get("systems"):
        for note in report.get("data", {}).get("notes", ()):
            output.console.print(escape(f"Note: {note}"))
        return
    from hf_genret.evaluation import table

    output.console.print(table(report))
    _show_groups(output, report["systems"])
    _show_ids(output, report)
    _show_losses(output, report)
    if report.get("history_not_excluded"):
        output.console.print("The same with items of the history left in:")
        output.console.print(table({**report, "systems": report["history_not_excluded"]}))


def _show_groups(output: Output, systems: Mapping[str, Any]) -> None:
    """nDCG@10 on queries whose documents training saw as positives, and on the others."""
    for name, system in systems.items():
        groups = [group for group in ("seen", "unseen", "mixed") if system.get(group)]
        figures = [_group(group, system[group]) for group in groups]
        if len([figure for figure in figures if figure]) > 1:
            output.console.print(escape(f"{name}, nDCG@10: {', '.join(filter(None, figures))}"))


def _group(name: str, group: Mapping[str, Any]) -> str:
    mean = group.get("metrics", {}).get("ndcg@10", {}).get("mean")
    return "" if mean is None else f"{name} documents {mean:.3f} ({group['queries']} queries)"


def _show_ids(output: Output, report: Mapping[str, Any]) -> None:
    """APE with balance and pool, and what ids alone find, the order in a bucket random."""
    for name, index in report.get("index", {}).items():
        ape = index["ape"]
        if not ape["unbucketed"]:
            continue  # one relevant document a query: every index has an APE of 0
        parts = [
            f"{level.replace('_', ' ')} {ape[level]['ape']:.3f} "
            f"(random {ape[level]['random']:.3f}, balance {ape[level]['balance']:.3f})"
            for level in ("leaf", "level_1")
        ]
        alone = report["systems"].get(name, {}).get("expectation", {}).get("recall@10", {})
        mean = alone.get("mean")
        more = "" if mean is None else f"; ids alone R@10 {mean:.3f}"
        output.console.print(escape(f"{name}, APE in nats: {', '.join(parts)}{more}"))


def _show_losses(output: Output, report: Mapping[str, Any]) -> None:
    """What queries still do not say of each code, beside an even guess."""
    for name, index in report.get("index", {}).items():
        levels = [f"{level['loss']:.2f} ({level['even']:.2f})" for level in index["query_loss"]]
        if levels:
            losses = ", ".join(levels)
            output.console.print(escape(f"{name}, loss by level in nats (even guess): {losses}"))


def show_hits(output: Output, title: str, hits: Sequence[Mapping[str, Any]]) -> None:
    """Print the hits of one query: rank, score, docid, id and title."""
    output.console.print(f"[bold]{escape(_short(title))}[/bold]")
    if not hits:
        output.console.print("  nothing found")
    for rank, hit in enumerate(hits, start=1):
        docid = "-".join(str(code) for code in hit["docid"])
        head = f"{rank:3d}  {hit['score']:8.4f}  {docid:12s} {hit['id']}"
        words = _short(hit.get("title") or hit.get("text") or "")
        output.console.print(escape(f"{head}  {words}".rstrip()))


def show_facts(output: Output, facts: Mapping[str, Any], indent: int = 0) -> None:
    """Print a nested mapping, one fact a line."""
    for name, value in facts.items():
        label = escape(" " * indent + _label(name))
        if isinstance(value, Mapping):
            output.console.print(label)
            show_facts(output, value, indent + 2)
        elif isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
            output.console.print(label)
            for row in value:
                output.console.print(escape(f"{' ' * indent}  - {_fact(row)}"))
        else:
            output.console.print(f"{label}: {escape(_fact(value))}")


def hit_record(hit: Any) -> dict[str, Any]:
    """A hit as plain values: id, score, docid, and what the document has beside its id."""
    record = {"id": hit.id, "score": float(hit.score), "docid": [int(code) for code in hit.docid]}
    document = dict(getattr(hit, "document", None) or {})
    document.pop("id", None)
    record |= {name: text for name in ("title", "text") if (text := document.pop(name, ""))}
    return record | ({"extra": document} if document else {})


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_label(name)} {_fact(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(item) for item in value)
    return str(value)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_WIDTH else line[: TITLE_WIDTH - 1] + "…"


def _label(name: Any) -> str:
    return str(name).replace("_", " ")

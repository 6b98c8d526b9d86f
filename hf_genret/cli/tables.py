"""Reports and hits as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from hf_genret.cli.output import Output

SYSTEMS = {
    "generative": "generative (this checkpoint)",
    "kmeans": "balanced k-means ids",
    "bm25": "BM25",
    "dense": "dense, exhaustive",
    "random": "random",
    "popularity": "popularity",
    "cooccurrence": "co-occurrence",
}
TITLE_WIDTH = 60


def show_report(output: Output, report: Mapping[str, Any]) -> None:
    """Print an evaluation report: one row a system, one column a metric, the interval beside it.

    Args:
        output: Where to print.
        report: `{"data", "split", "systems": {name: {"metrics": {metric: {"mean", "low",
            "high"}}, "documents_ranked", "latency_ms", "bytes"}}, ...}`.
    """
    systems: Mapping[str, Mapping[str, Any]] = report.get("systems", {})
    if not systems:
        return
    metrics = list(dict.fromkeys(name for row in systems.values() for name in row["metrics"]))
    table = Table(
        title=escape(f"{report.get('data')}, {report.get('split')}"), title_justify="left"
    )
    table.add_column("system")
    for name in (*metrics, "docs ranked", "ms/query", "bytes"):
        table.add_column(name, justify="right")
    for name, row in systems.items():
        cells = [_interval(row["metrics"].get(metric)) for metric in metrics]
        cells.append(_number(row.get("documents_ranked"), ".0f"))
        cells.append(_number(row.get("latency_ms"), ".2f"))
        cells.append(_number(row.get("bytes"), ",.0f"))
        table.add_row(escape(SYSTEMS.get(name, name)), *cells)
    output.console.print(table)
    for note in report.get("notes", []):
        output.console.print(escape(str(note)))


def show_hits(output: Output, title: str, hits: Sequence[Mapping[str, Any]]) -> None:
    """Print the hits of one query: rank, score, docid, id and title."""
    output.console.print(f"[bold]{escape(title)}[/bold]")
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
        label = escape(" " * indent + str(name).replace("_", " "))
        if isinstance(value, Mapping):
            output.console.print(label)
            show_facts(output, value, indent + 2)
        else:
            output.console.print(f"{label}: {escape(_fact(value))}")


def hit_record(hit: Any) -> dict[str, Any]:
    """A hit as plain values: id, score, docid, and what the document has of title and text."""
    record = {"id": hit.id, "score": float(hit.score), "docid": [int(code) for code in hit.docid]}
    document = getattr(hit, "document", None) or {}
    return record | {name: document[name] for name in ("title", "text") if document.get(name)}


def _interval(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "-"
    if value.get("low") is None or value.get("high") is None:
        return _number(value.get("mean"), ".4f")
    return f"{value['mean']:.4f} [{value['low']:.3f}, {value['high']:.3f}]"


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(item) for item in value)
    return str(value)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_WIDTH else line[: TITLE_WIDTH - 1] + "…"

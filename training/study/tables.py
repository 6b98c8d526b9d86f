"""A study as Markdown tables: statements, quality by factor, slopes, probabilities and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hf_genret.training.compare.tables import find, number, share
from hf_genret.training.study.verdicts import NAMES

Facts = Mapping[str, Any]
Row = Sequence[str]

FACTORS = {
    "corpus": "Size of the corpus (documents)",
    "dim": "Embedding dimension",
    "decoder": "Trained parameters",
    "negatives": "Number of negatives",
    "hardness": "Share of hard negatives",
    "similarity": "Similarity",
    "ids": "Kind of id",
    "beams": "Beams at test time",
    "zero_shot": "Zero-shot on another corpus",
}
"""Factors in the order of reports, and what their values are."""
REFERENCE = "reference"
"""Label of a line that a factor does not change."""


def study_tables(report: Facts) -> str:
    """The tables of a report, each under a heading and with what its columns mean.

    Args:
        report: With `cells`, `slopes` and `statements`.

    Returns:
        Markdown, without a title of its own; a part that has nothing to show is left out.
    """
    parts = [
        *_part("Statements", _ABOUT["Statements"], _statements(report)),
        *_part("Slopes", _ABOUT["Slopes"], _slopes(report)),
    ]
    for factor, heading in FACTORS.items():
        cells = [cell for cell in report["cells"] if cell["factor"] == factor]
        about = _ABOUT["Quality"] if factor == _first_factor(report) else ""
        parts += _part(heading, about, _quality(report, cells))
    parts += _part("Probabilities", _ABOUT["Probabilities"], _probabilities(report))
    parts += _part("Costs", _ABOUT["Costs"], _costs(report))
    return "\n\n".join(parts) + "\n" if parts else ""


_ABOUT = {
    "Statements": (
        "Findings of arXiv 2509.22116. A verdict is `holds` or `does not hold here` only where the "
        "95 % interval over queries says so; it does not cover how trainings with other seeds "
        "would differ."
    ),
    "Slopes": (
        "Least-squares change per doubling of the factor's value (of hard negatives: from none to "
        "all), with paired 95 % bootstrap intervals over queries; in brackets in per cent of the "
        "line's mean."
    ),
    "Quality": (
        "Item-level, with 95 % bootstrap intervals over queries. *: the default setting. Ids "
        "alone: without the ranker, documents of a bucket in random order (exact expectation)."
    ),
    "Probabilities": (
        "Of the distribution over all documents. KL (nats): from it to the one known from K "
        "sampled negatives. ECE: 15 bins of equal mass. log Z: mean and standard deviation over "
        "queries; ρ: Spearman's correlation of log Z with its sampled estimate. Ranks of centred "
        "log-probabilities, of so many queries; beyond d + 1: share of the squared singular values "
        "that no bilinear score of d dimensions can have. Leaked: probability on ids that do not "
        "exist when all codes compete."
    ),
    "Costs": (
        "Milliseconds with tokenization and encoding. Parameters: trained ones beside the encoder."
    ),
}


def _part(heading: str, about: str, table: tuple[Row, Sequence[Row]]) -> list[str]:
    """Heading, explanation and table; nothing where the table has no rows."""
    headings, rows = table
    if not rows:
        return []
    rule = [":--", *["--:" if heading != "Statements" else ":--" for _ in headings[1:]]]
    lines = [headings, rule, *rows]
    text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    return [part for part in (f"## {heading}", about, text) if part]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _statements(report: Facts) -> tuple[Row, Sequence[Row]]:
    rows = [
        [entry["source"], entry["text"], f"**{entry['verdict']}**", entry["evidence"]]
        for entry in report.get("statements", ())
    ]
    return ["source", "statement", "verdict", "evidence"], rows


def _slopes(report: Facts) -> tuple[Row, Sequence[Row]]:
    metrics = [m for m in NAMES if any(s["metric"] == m for s in report.get("slopes", ()))]
    lines: dict[tuple[str, str], dict[str, Facts]] = {}
    for entry in report.get("slopes", ()):
        lines.setdefault((entry["factor"], entry["system"]), {})[entry["metric"]] = entry
    rows = [
        [factor, system, *(_slope(found.get(metric)) for metric in metrics)]
        for (factor, system), found in lines.items()
    ]
    return ["factor", "system", *(NAMES[metric] for metric in metrics)], rows


def _slope(entry: Facts | None) -> str:
    """`+.0123 [.01, .02] (+3.1 %)`."""
    if entry is None:
        return "-"
    found = entry.get("per_doubling") or entry.get("from_0_to_1")
    relative = find(entry, "relative_per_doubling", "mean")
    text = f"{_signed(find(found, 'mean'))} [{_signed(find(found, 'low'))}, "
    text += f"{_signed(find(found, 'high'))}]"
    return text if relative is None else f"{text} ({100 * relative:+.1f} %)"


def _signed(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+.4f}".replace("+0.", "+.").replace("-0.", "-.")


def _quality(report: Facts, cells: Sequence[Facts]) -> tuple[Row, Sequence[Row]]:
    headings = ["value", "system", *NAMES.values(), "documents ranked"]
    rows = [
        [
            *_about(report, cell),
            *(_interval(find(cell, "metrics", metric)) for metric in NAMES),
            number(cell.get("documents_ranked")),
        ]
        for cell in cells
    ]
    return headings, rows


def _probabilities(report: Facts) -> tuple[Row, Sequence[Row]]:
    columns: dict[str, Callable[[Facts], str]] = {
        "KL": lambda cell: _interval(find(cell, "calibration", "kl")),
        "K": lambda cell: number(find(cell, "calibration", "negatives")),
        "ECE": lambda cell: _interval(find(cell, "calibration", "ece")),
        "log Z": lambda cell: _mean_and_spread(find(cell, "calibration")),
        "ρ": lambda cell: share(find(cell, "calibration", "log_z_rank_correlation")),
        "effective rank": lambda cell: number(find(cell, "spectrum", "effective_rank"), 1),
        "rank": lambda cell: number(find(cell, "spectrum", "numerical_rank")),
        "d + 1": lambda cell: number(find(cell, "spectrum", "bound")),
        "queries": lambda cell: number(find(cell, "spectrum", "queries")),
        "beyond d + 1": lambda cell: share(find(cell, "spectrum", "residual")),
        "leaked": lambda cell: _interval(cell.get("leaked")),
    }
    cells = [
        cell
        for cell in report["cells"]
        if cell["label"] != REFERENCE and (cell.get("calibration") or cell.get("spectrum"))
    ]
    return _by_columns(report, cells, columns)


def _costs(report: Facts) -> tuple[Row, Sequence[Row]]:
    def megabytes(name: str) -> Callable[[Facts], str]:
        return lambda cell: number(_scaled(find(cell, "costs", name), 1e-6), 1)

    columns: dict[str, Callable[[Facts], str]] = {
        "parameters": lambda cell: number(cell.get("parameters")),
        "training s": lambda cell: number(find(cell, "costs", "training_seconds")),
        "ms/query": lambda cell: number(find(cell, "costs", "latency_ms"), 2),
        "ids MB": megabytes("index_bytes"),
        "vectors MB": megabytes("vector_bytes"),
        "weights MB": megabytes("weight_bytes"),
    }
    cells = [cell for cell in report["cells"] if cell["label"] != REFERENCE and cell.get("costs")]
    return _by_columns(report, cells, columns)


def _by_columns(
    report: Facts, cells: Sequence[Facts], columns: Mapping[str, Callable[[Facts], str]]
) -> tuple[Row, Sequence[Row]]:
    rows = [
        [cell["factor"], *_about(report, cell), *(shown(cell) for shown in columns.values())]
        for cell in cells
    ]
    return ["factor", "value", "system", *columns], rows


def _about(report: Facts, cell: Facts) -> list[str]:
    """Value and system of a cell; the default setting is marked, seeds where there are several."""
    label = cell["label"] + ("*" if cell.get("baseline") and cell["label"] != REFERENCE else "")
    value = cell.get("value")
    if value is not None and cell["factor"] in ("corpus", "decoder"):
        label += f" ({number(value)})"
    several = len(report.get("seeds", ())) > 1
    return [label, f"{cell['system']}, seed {cell['seed']}" if several else cell["system"]]


def _interval(found: Facts | None) -> str:
    if not found:
        return "-"
    return f"{share(found['mean'])} [{share(found['low'])}, {share(found['high'])}]"


def _mean_and_spread(found: Facts | None) -> str:
    if found is None or found.get("log_z_mean") is None:
        return "-"
    return f"{number(found['log_z_mean'], 2)} ± {number(found['log_z_std'], 2)}"


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _first_factor(report: Facts) -> str | None:
    known = {cell["factor"] for cell in report["cells"]}
    return next((factor for factor in FACTORS if factor in known), None)

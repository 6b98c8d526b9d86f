"""Pictures of a study: quality over each factor, drift over the corpus, rank over dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hf_genret.errors import MissingExtraError
from hf_genret.files import atomic_file
from hf_genret.training.compare.tables import find
from hf_genret.training.study.lines import DENSE, DOUBLING, GENERATIVE, IDS_ALONE
from hf_genret.training.study.tables import FACTORS, REFERENCE
from hf_genret.training.study.verdicts import METRIC, NAMES

Facts = Mapping[str, Any]
FORMATS = ("png", "svg")
COLUMN, PAGE = 3.4, 7.1
"""Inches of a column and of a page of two."""

# Okabe and Ito's colours, told apart with any colour vision, and with other marks and lines.
_LOOKS: dict[str, dict[str, Any]] = {
    GENERATIVE: {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    DENSE: {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    IDS_ALONE: {"color": "#CC79A7", "marker": "D", "linestyle": "-."},
}
_OTHER: dict[str, Any] = {"color": "#009E73", "marker": "^", "linestyle": ":"}
_METRICS = {"corpus": "hits@1"}  # others: METRIC
_STYLE: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "legend.frameon": False,
    "svg.hashsalt": "hf-genret",
}

_LEVEL = 22
"""Letters that fit side by side below one of the overview's panels."""


def study_plots(report: Facts, folder: str | Path) -> list[Path]:
    """Draw what the report has cells for, as PNG (200 dpi) and SVG.

    One figure a factor (`corpus`, `dim`, ...), `overview` with all of them, `drift` (calibration
    over the size of the corpus) and `rank` (ranks over dimensions). Bands and bars are 95 %
    intervals over queries.

    Args:
        report: With `cells`.
        folder: Where the pictures go.

    Returns:
        The files, the overview first.

    Raises:
        MissingExtraError: When matplotlib is not installed.
        OSError: When the disk refuses.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "plots of a study") from error
    cells = list(report["cells"])
    factors = [name for name in FACTORS if any(cell["factor"] == name for cell in cells)]
    figures: dict[str, Callable[[], Any]] = {"overview": lambda: _overview(cells, factors)}
    figures |= {name: partial(_single, cells, name) for name in factors}
    figures |= {"drift": lambda: _drift(cells), "rank": lambda: _rank(cells)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with matplotlib.rc_context(_STYLE):
        for name, draw in figures.items():
            figure = draw()
            if figure is not None:
                written += [_save(figure, folder / f"{name}.{ending}") for ending in FORMATS]
    return written


def _save(figure: Any, path: Path) -> Path:
    """Write a picture whole or not at all, the same bytes every time."""
    about = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with atomic_file(path) as fresh:
        figure.savefig(fresh, dpi=200, metadata=about)
    return path


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _single(cells: Sequence[Facts], factor: str) -> Any:
    figure, (panel,) = _figure(COLUMN, 2.6)
    _panel(panel, cells, factor)
    _legend(figure, [panel])
    return figure


def _overview(cells: Sequence[Facts], factors: Sequence[str]) -> Any:
    if not factors:
        return None
    columns = min(3, len(factors))
    rows = -(-len(factors) // columns)
    figure, panels = _figure(PAGE, 0.4 + 2.0 * rows, rows, columns)
    for number, (panel, factor) in enumerate(zip(panels, factors, strict=False)):
        _panel(panel, cells, factor)
        panel.set_title(f"({chr(97 + number)})", loc="left")
    for panel in panels[len(factors) :]:
        panel.set_visible(False)
    _legend(figure, panels[: len(factors)])
    return figure


def _panel(panel: Any, cells: Sequence[Facts], factor: str) -> None:
    """One factor: its systems as lines with bands, or as marks where values are no numbers."""
    own = [cell for cell in cells if cell["factor"] == factor]
    metric = _METRICS.get(factor, METRIC)
    lines: dict[str, list[Facts]] = {}
    for cell in own:
        if cell["label"] == REFERENCE:
            _reference(panel, [c for c in own if c["system"] == cell["system"]], metric)
        else:
            lines.setdefault(cell["system"], []).append(cell)
    numbers = factor in DOUBLING or factor == "hardness"
    if numbers:
        for system, same in lines.items():
            _line(panel, same, system, ("metrics", metric))
        _scale(panel, factor, [c["value"] for c in own if c.get("value") is not None])
    else:
        _marks(panel, [cell for same in lines.values() for cell in same], metric)
    panel.set(xlabel=FACTORS[factor], ylabel=NAMES[metric])


def _line(panel: Any, cells: Sequence[Facts], system: str, path: tuple[str, ...]) -> None:
    """A line with its band; a value that is of another kind stands beside it, hollow."""
    look = _LOOKS.get(system, _OTHER)
    points = [(x, label, y) for x, label, y in _by_label(cells, path) if x is not None]
    joined = [(x, y) for x, label, y in points if _same_kind(cells[0]["factor"], label)]
    joined.sort(key=lambda point: point[0])
    if joined:
        x = [value for value, _ in joined]
        middle, low, high = np.array([y for _, y in joined]).T
        panel.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
        panel.plot(x, middle, label=system, **look)
    for value, label, (middle_, low_, high_) in points:
        if not _same_kind(cells[0]["factor"], label):
            bars = [[middle_ - low_], [high_ - middle_]]
            panel.errorbar(
                [value],
                [middle_],
                bars,
                fmt=look["marker"],
                color=look["color"],
                markerfacecolor="white",
                elinewidth=0.8,
            )
            panel.annotate(
                label,
                (value, high_),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=look["color"],
            )


def _reference(panel: Any, cells: Sequence[Facts], metric: str) -> None:
    """A system that the factor does not change, as a level line."""
    system = cells[0]["system"]
    look = _LOOKS.get(system, _OTHER)
    found = _by_label(cells, ("metrics", metric))
    if not found:
        return
    middle, low, high = found[0][2]
    panel.axhspan(low, high, color=look["color"], alpha=0.10, linewidth=0)
    panel.axhline(
        middle,
        color=look["color"],
        linestyle=look["linestyle"],
        linewidth=1,
        label=f"{system} (default)",
    )


def _marks(panel: Any, cells: Sequence[Facts], metric: str) -> None:
    """Values that are no numbers, side by side with their intervals."""
    single = len({cell["label"] for cell in cells}) == 1  # then the systems are what differs
    names = list(dict.fromkeys(cell["system" if single else "label"] for cell in cells))
    systems = dict.fromkeys(cell["system"] for cell in cells)
    own = {cell["label"] for cell in cells if cell["system"] == cell["label"]}
    for system in systems:
        same = [cell for cell in cells if cell["system"] == system]
        kind = GENERATIVE if system in own or system == "learned" else system
        look = _LOOKS.get(kind, _OTHER)
        for _, label, (middle, low, high) in _by_label(same, ("metrics", metric)):
            panel.errorbar(
                [names.index(system if single else label)],
                [middle],
                [[middle - low], [high - middle]],
                fmt=look["marker"],
                color=look["color"],
                capsize=2.5,
                elinewidth=1,
                label=kind,
            )
    # Written out level they would meet in the overview's narrow panels.
    slant = sum(map(len, names)) > _LEVEL
    panel.set_xticks(
        range(len(names)), names, rotation=20 if slant else 0, ha="right" if slant else "center"
    )
    panel.set_xlim(-0.6, len(names) - 0.4)
    panel.grid(axis="x", visible=False)


def _drift(cells: Sequence[Facts]) -> Any:
    """KL of the sampled normaliser and ECE over the size of the corpus."""
    own = [c for c in cells if c["factor"] == "corpus" and c.get("calibration")]
    if len({cell["value"] for cell in own}) < 2:
        return None
    # What normalises over all documents by itself has no estimate that could drift.
    sampled = [cell for cell in own if cell["calibration"].get("negatives") is not None]
    wanted = {"kl": sampled, "ece": own}
    labels = {"kl": r"KL($p_{\mathrm{full}}\,\Vert\,p_K$) (nats)", "ece": "ECE"}
    figure, panels = _figure(PAGE, 2.6, 1, len(wanted))
    for panel, (name, known) in zip(panels, wanted.items(), strict=True):
        for system in dict.fromkeys(cell["system"] for cell in known):
            same = [cell for cell in known if cell["system"] == system]
            _line(panel, same, system, ("calibration", name))
        _scale(panel, "corpus", [cell["value"] for cell in own])
        panel.set(xlabel=FACTORS["corpus"], ylabel=labels[name])
        panel.set_ylim(bottom=0)
    _legend(figure, panels)
    return figure


def _rank(cells: Sequence[Facts]) -> Any:
    """Numerical and effective rank of dense scores over their dimensions, generative beside."""
    known = [c for c in cells if c.get("spectrum") and c["factor"] != "zero_shot"]
    # A rank is at most the number of queries, so only ranks of equally many stand side by side.
    most = max((cell["spectrum"]["queries"] for cell in known), default=0)
    known = [cell for cell in known if cell["spectrum"]["queries"] == most]
    known.sort(key=lambda cell: not cell["baseline"])
    lines = [cell for cell in reversed(known) if cell["system"] == DENSE]
    dense = {cell["spectrum"]["dim"]: cell["spectrum"] for cell in lines}
    if len(dense) < 2:
        return None
    figure, (panel,) = _figure(COLUMN, 3.0)
    dims = sorted(dense)
    look, other = _LOOKS[DENSE], _LOOKS[GENERATIVE]
    panel.plot(dims, [d + 1 for d in dims], color="#777777", linewidth=0.9, label="bound d + 1")
    for name, words, style in (
        ("numerical_rank", "rank", {}),
        ("effective_rank", "effective rank", {"linestyle": ":", "markerfacecolor": "white"}),
    ):
        ranks = [dense[d][name] for d in dims]
        panel.plot(dims, ranks, label=f"dense, {words}", **{**look, **style})
        own = next((c["spectrum"] for c in known if c["system"] == GENERATIVE), None)
        if own is not None:
            line = style.get("linestyle", "-")
            panel.axhline(
                own[name], color=other["color"], linestyle=line, label=f"generative, {words}"
            )
    queries = min(found["queries"] for found in dense.values())
    panel.axhline(queries, color="#bbbbbb", linewidth=0.9, linestyle=(0, (1, 2)), label="queries")
    _scale(panel, "dim", dims)
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_formatter(lambda value, _: _short(value, value))
    _plain(panel.yaxis)
    panel.set(xlabel=FACTORS["dim"], ylabel="rank of log-probabilities")
    _legend(figure, [panel])
    return figure


def _by_label(
    cells: Sequence[Facts], path: tuple[str, ...]
) -> list[tuple[float | None, str, tuple[float, float, float]]]:
    """Value, label and (mean, low, high) of each label, the mean over seeds; unknown ones not."""
    groups: dict[str, list[tuple[float | None, list[float]]]] = {}
    for cell in cells:
        found = find(cell, *path)
        ends = [find(found, key) for key in ("mean", "low", "high")]
        if None not in ends:
            groups.setdefault(cell["label"], []).append((cell.get("value"), ends))
    out = []
    for label, same in groups.items():
        middle, low, high = np.array([ends for _, ends in same]).mean(axis=0).tolist()
        out.append((same[0][0], label, (middle, low, high)))
    return out


def _same_kind(factor: str, label: str) -> bool:
    """Whether a point belongs to its line: `in-batch` and `full` are of another kind."""
    return factor not in ("dim", "negatives") or label.replace(".", "", 1).isdigit()


def _scale(panel: Any, factor: str, values: Sequence[float]) -> None:
    """Doublings are equally far apart, and ticks are the numbers they are."""
    known = sorted({float(value) for value in values if value > 0})
    if factor not in DOUBLING or not known:
        return
    panel.set_xscale("log", base=2)
    # Labels of near values would overlap, long ones sooner than short ones.
    least = (known[-1] / known[0]) ** (0.08 * max(len(_short(x, known[-1])) for x in known) / 2)
    ticks: list[float] = []
    for value in known:
        if not ticks or value >= ticks[-1] * max(least, 1.001):
            ticks.append(value)
    panel.set_xticks(ticks, [_short(tick, known[-1]) for tick in ticks])
    _plain(panel.xaxis)


def _plain(axis: Any) -> None:
    """No ticks between those that have a number."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _short(value: float, largest: float) -> str:
    """A number in full, or in thousands and millions where the largest of its axis is long."""
    if largest < 1e5:
        return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
    return f"{value / 1e6:.3g}M" if value >= 1e6 else f"{value / 1e3:.3g}k"


def _legend(figure: Any, panels: Sequence[Any]) -> None:
    """The names of all lines, once each, below the panels."""
    known: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    # A line says what its level does; the level is named where there is no line.
    names = [n for n in known if n.removesuffix(" (default)") == n or len(panels) == 1]
    if names:
        room = 4 if figure.get_figwidth() > COLUMN else 2
        handles = [known[name] for name in names]
        figure.legend(handles, names, loc="outside lower center", ncols=min(room, len(names)))

"""Pictures of a comparison: quality against documents ranked, buckets, code use, sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hf_genret.errors import MissingExtraError
from hf_genret.training.compare.tables import find, title_of

Facts = Mapping[str, Any]
FORMATS = ("png", "svg")

# Okabe and Ito's colours, told apart with any colour vision; then the same with other lines.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_LINES = ("-", "--", ":", "-.", (0, (8, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")  # one more than colours
_LABELS = {"ndcg@10": "nDCG@10", "recall@10": "R@10", "candidate_recall": "candidate recall"}
_PANELS = 4  # levels drawn at most
_STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "svg.hashsalt": "hf-genret",
    "legend.frameon": False,
}


def write_plots(report: Facts, folder: str | Path) -> list[Path]:
    """Draw what the report allows, as PNG and SVG.

    Args:
        report: What `compare` gave.
        folder: Where the pictures go.

    Returns:
        The files.

    Raises:
        MissingExtraError: When matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "plots of a comparison") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_STYLE):
        for name, draw in PLOTS.items():
            figure = draw(report)
            for ending in FORMATS if figure is not None else ():
                path = folder / f"{name}.{ending}"
                about = {"Date": None} if ending == "svg" else {"Software": None}
                figure.savefig(path, dpi=100, metadata=about)
                written.append(path)
    return written


def styles(report: Facts) -> dict[str, dict[str, Any]]:
    """Colour, line and mark of every system with ids, the same in all pictures.

    A system keeps its colour at other codebook sizes, with another line.
    """
    bases: dict[str, list[str]] = {}
    for name in with_ids(report):
        bases.setdefault(name.partition("@")[0], []).append(name)
    out = {}
    lines = dict.fromkeys(_COLOURS, 0)  # how many systems have a colour so far
    for place, names in enumerate(bases.values()):
        colour = _COLOURS[place % len(_COLOURS)]
        for name in names:
            out[name] = {
                "color": colour,
                "linestyle": _LINES[lines[colour] % len(_LINES)],
                "marker": _MARKS[place % len(_MARKS)],
                "markersize": 4,
                "linewidth": 1.8,
                "label": name,
            }
            lines[colour] += 1
    return out


def draw_pools(report: Facts) -> Any:
    """Candidate recall and nDCG@10 when only the first documents of the leaves are ranked."""
    systems = with_ids(report)
    if not systems:
        return None
    figure, axes = _figure(report, 2, 4.4, "What the first documents of the leaves hold")
    looks = styles(report)
    for name, facts in systems.items():
        for panel, metric in zip(axes, ("candidate_recall", "ndcg@10"), strict=True):
            panel.plot(facts["curve"]["documents"], facts["curve"][metric], **looks[name])
    greys = iter((("#555555", "-"), ("#555555", "--"), ("#555555", ":")))
    right = max(max(facts["curve"]["documents"]) for facts in systems.values())
    for name in ("dense", "bm25", "cooccurrence"):
        facts = report["systems"].get(name)
        if facts is None or (look := next(greys, None)) is None:
            continue
        colour, line = look
        pools = [n for n, size in enumerate(facts["curve"]["pool"]) if size <= right]
        recall = [facts["curve"]["candidate_recall"][n] for n in pools]
        sizes = [facts["curve"]["pool"][n] for n in pools]
        label = f"{name} (of all documents)"
        axes[0].plot(sizes, recall, color=colour, linestyle=line, label=label)
        axes[1].axhline(facts["metrics"]["ndcg@10"]["mean"], color=colour, linestyle=line)
    for panel, metric in zip(axes, ("candidate_recall", "ndcg@10"), strict=True):
        panel.set_xscale("log")
        _plain_ticks(panel, right)
        panel.set(xlabel="documents ranked for a query", ylabel=_LABELS[metric])
    return _with_legend(figure, axes[0])


def draw_buckets(report: Facts) -> Any:
    """How many leaves hold how many documents, a panel for each system."""
    systems = with_ids(report)
    if not systems:
        return None
    sizes = {name: find(facts, "id_counts", "bucket_sizes") for name, facts in systems.items()}
    edges = size_bins(max(max(found["documents"]) for found in sizes.values()))
    columns = min(3, len(systems))
    rows = -(-len(systems) // columns)
    figure, axes = _figure(
        report, columns, 1.2 + 2.3 * rows, "Sizes of buckets (documents with one id)", rows
    )
    labels = [f"{low}" if low == high else f"{low}–{high}" for low, high in edges]
    crowded = sum(map(len, labels)) * columns > 60
    for panel, (name, found) in zip(axes, sizes.items(), strict=False):
        counts = np.zeros(len(edges))
        for size, many in zip(found["documents"], found["buckets"], strict=True):
            counts[next(n for n, (low, high) in enumerate(edges) if low <= size <= high)] += many
        panel.bar(range(len(edges)), counts, color=_COLOURS[0], width=0.8)
        panel.set_title(name, fontsize=11)
        panel.set_xticks(range(len(edges)), labels, rotation=90 if crowded else 0)
        panel.grid(axis="x", visible=False)
        panel.set(xlabel="documents in a bucket", ylabel="buckets")
    for panel in axes[len(systems) :]:
        panel.set_visible(False)
    return figure


def draw_codes(report: Facts) -> Any:
    """How often the codes of each level are used, the most frequent first."""
    counts = {name: find(f, "id_counts", "code_counts") for name, f in with_ids(report).items()}
    counts = {name: levels for name, levels in counts.items() if any(levels)}
    if not counts:
        return None
    panels = min(_PANELS, max(len(levels) for levels in counts.values()))
    figure, axes = _figure(report, panels, 4.4, "Use of codes (1 is even)")
    looks = styles(report)
    for name, levels in counts.items():
        for panel, level in zip(axes, levels, strict=False):
            if level is not None:
                used = np.sort(np.asarray(level, dtype=float))[::-1]
                relative = used * len(used) / max(used.sum(), 1)
                look = {**looks[name], "marker": None}
                panel.plot(np.linspace(0, 100, len(used)), relative, **look)
    for number, panel in enumerate(axes, start=1):
        panel.axhline(1, color="#999999", linewidth=1, zorder=0)
        panel.set_ylim(0, max(1.5, 1.05 * panel.get_ylim()[1]))
        panel.set_title(f"level {number}", fontsize=11)
        panel.set_xlabel("codes, most used first (%)")
    axes[0].set_ylabel("documents of a code / even share")
    return _with_legend(figure, axes[0])


def draw_sizes(report: Facts) -> Any:
    """Quality and APE against the sizes of the codebooks, where a system has several."""
    series: dict[str, list[tuple[list[int], Facts]]] = {}
    for name, facts in with_ids(report).items():
        found = [int(size) for size in find(facts, "ids", "codebook_sizes")]
        series.setdefault(name.partition("@")[0], []).append((found, {**facts, "name": name}))
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return None
    every = {tuple(sizes) for points in series.values() for sizes, _ in points}
    order = sorted(every, key=lambda sizes: (np.prod(sizes, dtype=float), len(sizes)))
    where = {sizes: place for place, sizes in enumerate(order)}
    metric = report["metric"]
    panels: dict[str, Callable[[Facts], Any]] = {
        _LABELS[metric]: lambda facts: facts["metrics"][metric]["mean"],
        "candidate recall": lambda facts: find(facts, "candidate_recall", "mean"),
        "APE of leaves (nats)": lambda facts: find(facts, "ids", "ape", "leaf", "ape"),
    }
    figure, axes = _figure(report, len(panels), 4.4, "Quality and APE against K and L")
    looks = styles(report)
    for name, points in series.items():
        look = {**looks[points[0][1]["name"]], "label": name}
        points = sorted(points, key=lambda point: where[tuple(point[0])])
        for panel, value in zip(axes, panels.values(), strict=True):
            x = [where[tuple(sizes)] for sizes, _ in points]
            panel.plot(x, [value(facts) for _, facts in points], **look)
    labels = ["×".join(map(str, sizes)) for sizes in order]
    turned = sum(map(len, labels)) > 24
    for panel, label in zip(axes, panels, strict=True):
        panel.set_xticks(range(len(order)), labels, rotation=90 if turned else 0)
        panel.set(xlabel="codes of each level", ylabel=label)
    return _with_legend(figure, axes[0])


PLOTS: dict[str, Callable[[Facts], Any]] = {
    "documents_ranked": draw_pools,
    "bucket_sizes": draw_buckets,
    "code_use": draw_codes,
    "codebook_sizes": draw_sizes,
}


def with_ids(report: Facts) -> dict[str, Facts]:
    """Systems that search by ids."""
    return {name: facts for name, facts in report["systems"].items() if "ids" in facts}


def size_bins(largest: int) -> list[tuple[int, int]]:
    """Bins of bucket sizes: 1, 2, 3, ... where they are few, else doubling."""
    if largest <= 12:
        return [(size, size) for size in range(1, largest + 1)]
    bins, low = [(1, 1), (2, 2)], 3
    while low <= largest:
        high = 4 if low == 3 else 2 * (low - 1)
        bins.append((low, high))
        low = high + 1
    return bins


def _figure(
    report: Facts, columns: int, height: float, what: str, rows: int = 1
) -> tuple[Any, list[Any]]:
    """A figure 1,000 pixels wide and its panels, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height), layout="constrained")
    figure.suptitle(f"{what}\n{title_of(report)}", fontsize=11)
    panels = figure.subplots(rows, columns, squeeze=False)
    return figure, list(panels.flat)


def _plain_ticks(panel: Any, right: float) -> None:
    """Ticks of a logarithmic axis as the numbers they are."""
    from matplotlib.ticker import NullFormatter, NullLocator

    ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if tick <= right]
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())


def _with_legend(figure: Any, panel: Any) -> Any:
    """The names of the lines below all panels."""
    handles, labels = panel.get_legend_handles_labels()
    longest = max(map(len, labels), default=1)
    columns = max(1, min(len(labels), 100 // (longest + 8)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure

"""The report of a comparison as one Markdown page, every figure with what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_genret.training.compare.layouts import pages
from hf_genret.training.compare.names import INDEX_FROM
from hf_genret.training.compare.tables import SECTIONS, grid, number, section, title_of

Facts = Mapping[str, Any]


def markdown(report: Facts) -> str:
    """A page: what was measured and how, the tables, what failed and what to beware of.

    Args:
        report: What `compare` gave.
    """
    parts = [f"# {title_of(report)}", f"`{report['command']}`", *pages(report)]
    if report["systems"] or report.get("only_ids"):
        for title in SECTIONS:
            headings, rows = section(report, title)
            if rows and len(headings) > 1:
                parts += [f"## {title}", _explained(report, title), grid(headings, rows)]
    parts += _lists(report)
    return "\n\n".join(part for part in parts if part) + "\n"


def _explained(report: Facts, title: str) -> str:
    """What the columns of a table mean."""
    only_ids = bool(report.get("only_ids"))
    return {
        "Quality": _about_quality(report),
        "Groups of queries": (
            "The same metric on parts of the queries (their number in brackets): documents that "
            "training queries name or not; head, torso and tail, a third of the training pairs "
            "each; and five parts of the queries by how often their documents stand in training."
        ),
        "Ids": (
            "Codes used and balance level by level (1 is even; GenRet's diversity), pooled over "
            "parents. APE: how far what one training query or user takes is scattered over "
            "buckets, in nats, beside random ids with the same bucket sizes; lower is better at "
            "equal balance. Loss by level: cross-entropy of relevant documents' codes after the "
            "right codes before, in nats, beside that of an even guess. Ids alone: leaves in the "
            "order of the beam, their documents in random "
            "order (exact expectation). R@10 in buckets counts k in buckets, and a bucket with a "
            "relevant document as found: no measure of documents."
            + (" ids: no decoder was trained for these and nothing searched." * only_ids)
        ),
        "Costs": _about_costs(report),
    }[title]


def _about_quality(report: Facts) -> str:
    """How the figures of the first table were made."""
    several = len(report["seeds"]) > 1
    said = [
        "Item-level. The interval is a bootstrap over queries"
        + (", each with the mean over seeds." if several else ".")
    ]
    if several:
        said.append(
            "seeds: standard deviation over seeds (from lowest to highest where there are two); "
            "-: one seed alone."
        )
    if any(INDEX_FROM in name for name in report["systems"]):
        said.append(f"{INDEX_FROM}NAME: trained on the ids of NAME's checkpoint of the same seed.")
    pool = (report.get("equal_pool") or {}).get("documents")
    if pool:
        said.append(
            f"of {pool:,}: only the first {pool:,} documents of the leaves (of the ranking, where "
            "a system has no ids), so that pools are equal."
        )
    if report.get("baseline"):
        said.append(
            f"ratio and p: against {report['baseline']} with the same seeds; paired randomization "
            "test over queries, Holm-corrected."
        )
    return " ".join(said)


def _about_costs(report: Facts) -> str:
    """What times and bytes hold."""
    machines = dict.fromkeys(facts["machine"] for facts in report["systems"].values())
    said = [
        f"Milliseconds with tokenization and encoding, on {' or '.join(machines)}.",
        "Training without the start that systems share",
    ]
    start = report.get("shared_start")
    if start:
        seconds = [number(value) for value in start["training_seconds"]]
        said[-1] += f" ({start['system']}: {', '.join(seconds)} s)"
    return " ".join(said) + "."


def _lists(report: Facts) -> list[str]:
    """Failures, warnings, notes, and how each system was trained."""
    failed = [f"{e['system']}, seed {e['seed']}: {e['error']}" for e in report["failed"]]
    warnings, notes, commands = [], list(report["data"].get("notes", ())), []
    notes += report.get("setting_notes", ())
    for name, facts in {**report["systems"], **report.get("only_ids", {})}.items():
        warnings += [f"{name}: {warning['message']}" for warning in facts["warnings"]]
        notes += [f"{name}: {note}" for note in facts.get("notes", ())]
        if facts.get("command"):
            commands.append(f"{name}: `{facts['command']}`")
    lists = {"Failed": failed, "Warnings": warnings, "Notes": notes, "Trained by": commands}
    out = []
    for title, lines in lists.items():
        if lines:
            out += [f"## {title}", "\n".join(f"- {line}" for line in dict.fromkeys(lines))]
    return out

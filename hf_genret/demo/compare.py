"""One query in three systems, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_genret.demo import parts

if TYPE_CHECKING:
    from hf_genret.demo.answers import Comparison
    from hf_genret.demo.others import Ranked
    from hf_genret.documents import DocumentStore

_ABOUT = {
    "Generative": "writes ids, ranks the documents under them",
    "BM25": "counts words that query and document share",
    "Dense": "same encoder, ranks every document",
}


def compare_html(comparison: Comparison | None, documents: DocumentStore) -> str:
    """Three columns; a document that several of them find carries its place in the others."""
    if comparison is None:
        return parts.notice("Search first; the three results stand here.")
    systems = {
        "Generative": comparison.generative,
        "BM25": comparison.bm25,
        "Dense": comparison.dense,
    }
    columns = [_column(name, systems, documents) for name in systems]
    note = (
        '<p class="g-note">Time of one query on this machine, the first of a kind included. '
        "Measured quality is on the model card.</p>"
    )
    return f'<div class="g-three">{"".join(columns)}</div>{note}'


def _column(name: str, systems: dict[str, Ranked], documents: DocumentStore) -> str:
    found = systems[name]
    head = f"<h3>{name}<small>{_ABOUT[name]}</small></h3>"
    if found.missing:
        return f'<section class="g-column">{head}{parts.notice(found.missing)}</section>'
    lines = []
    for row in found.rows:
        document = documents[row]
        title = parts.text(document["title"] or document["id"], 100)
        also = [
            f"{other} {ranked.rows.index(row) + 1}"
            for other, ranked in systems.items()
            if other != name and row in ranked.rows
        ]
        places = f'<span class="g-also">{" · ".join(also)}</span>' if also else ""
        snippet = parts.text(document["text"], 90)
        lines.append(
            f'<li><span class="g-title">{title}</span>{places}<small>{snippet}</small></li>'
        )
    body = "".join(lines) or '<li class="g-more">nothing found</li>'
    time = f'<p class="g-time">{found.milliseconds:.1f} ms</p>'
    return f'<section class="g-column">{head}{time}<ol>{body}</ol></section>'

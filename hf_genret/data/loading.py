"""One call for every layout of data: the layout is found, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hf_genret.data import beir, interactions
from hf_genret.data.fingerprint import fingerprint
from hf_genret.data.layout import Layout, Options
from hf_genret.data.schema import Documents, RetrievalData
from hf_genret.errors import DataError

#: Tried in this order; the first that matches is read.
LAYOUTS = (
    Layout(
        "BEIR folder",
        "corpus.jsonl[.gz] (with queries.jsonl[.gz] and qrels/*.tsv)",
        beir.is_beir,
        beir.beir_documents,
        beir.beir_splits,
    ),
    Layout(
        "items and sequences",
        "items.jsonl[.gz] with sequences.tsv[.gz]",
        interactions.is_interactions,
        interactions.interaction_documents,
        interactions.interaction_splits,
    ),
)


def _find_layout(path: Path) -> Layout:
    if not path.exists():
        raise DataError("expected a data folder or file, found nothing there.", path=path)
    for layout in LAYOUTS:
        if layout.matches(path):
            return layout
    looked_for = "; ".join(layout.looks_for for layout in LAYOUTS)
    raise DataError(f"expected one of: {looked_for}; found none of them.", path=path)


def _short_name(path: Path) -> str:
    return path.resolve().name.removesuffix(".gz").removesuffix(".jsonl")


def load_data(
    source: str | Path,
    *,
    name: str | None = None,
    corpus_field_map: Mapping[str, str] | None = None,
    max_history: int = 20,
) -> RetrievalData:
    """Documents and queries from a folder or file; the layout is detected.

    Args:
        source: A BEIR folder, a jsonl folder or file, a saved `datasets` folder, or a folder of
            items and sequences.
        name: Name for reports; the folder's own by default.
        corpus_field_map: `id`, `title` or `text` -> name of the corpus column that holds it.
        max_history: Items kept of a user's history, the newest.

    Raises:
        DataError: Missing, of no known layout, or with a fault in it: names file, line and field.
        ConfigError: For an option that cannot work.
    """
    path, options = Path(source), Options(corpus_field_map, max_history)
    layout = _find_layout(path)
    documents = layout.documents(path, options)
    parts = layout.splits(path, documents, options)
    return RetrievalData(
        name=name or _short_name(path),
        fingerprint=fingerprint(documents, parts.splits),
        documents=documents,
        splits=parts.splits,
        num_users=parts.num_users,
        notes=parts.notes,
    )


def load_documents(
    source: str | Path, *, corpus_field_map: Mapping[str, str] | None = None
) -> Documents:
    """The documents alone, from a jsonl file or the corpus of any layout that `load_data` reads.

    Args:
        source: A file or folder.
        corpus_field_map: `id`, `title` or `text` -> name of the corpus column that holds it.

    Raises:
        DataError: Missing, of no known layout, or with a fault in it: names file, line and field.
    """
    path = Path(source)
    return _find_layout(path).documents(path, Options(corpus_field_map))

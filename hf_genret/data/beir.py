"""BEIR's layout: corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hf_genret.data.collecting import (
    collect_judgments,
    collect_query_texts,
    left_out_note,
)
from hf_genret.data.layout import Options, Parts
from hf_genret.data.reading import Record, Table, find, read_jsonl, read_lines
from hf_genret.data.schema import Documents
from hf_genret.errors import DataError

#: File names of each split's judgments, the first one found is read.
QRELS = {
    "train": ("train.tsv",),
    "dev": ("dev.tsv", "validation.tsv", "valid.tsv"),
    "test": ("test.tsv",),
}
_COLUMNS = ("query-id", "corpus-id", "score")


def is_beir(path: Path) -> bool:
    """Whether a folder holds corpus.jsonl[.gz]."""
    return path.is_dir() and find(path, "corpus.jsonl") is not None


def beir_documents(path: Path, options: Options) -> Documents:
    """The documents of corpus.jsonl[.gz]."""
    corpus = find(path, "corpus.jsonl")
    assert corpus is not None  # is_beir found it
    return options.documents(read_jsonl(corpus))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _judgments(path: Path) -> Iterator[tuple[int, Record]]:
    for line, text in read_lines(path):
        parts = [part.strip() for part in text.split("\t")]
        if len(parts) != len(_COLUMNS):
            message = f"expected {', '.join(_COLUMNS)} parted by tabs, found {len(parts)} columns."
            raise DataError(message, path=path, line=line)
        if line == 1 and not _is_number(parts[2]):
            continue  # the header; a file without one loses no judgment
        yield line, dict(zip(_COLUMNS, parts, strict=True))


def _split_files(path: Path) -> dict[str, Path]:
    files = {}
    for split, names in QRELS.items():
        found = [file for name in names if (file := find(path / "qrels", name))]
        if found:
            files[split] = found[0]
    return files


def beir_splits(path: Path, documents: Documents, options: Options) -> Parts:
    """The splits that have a file of judgments.

    Raises:
        DataError: For anything wrong in queries or judgments, with file and line.
    """
    files, queries = _split_files(path), find(path, "queries.jsonl")
    if not files:
        note = ["queries.jsonl has no qrels beside it and was not read."] if queries else []
        return Parts(notes=note)
    if queries is None:
        raise DataError("expected queries.jsonl[.gz] beside qrels, found none.", path=path)
    texts = collect_query_texts(read_jsonl(queries))
    rows = {identifier: row for row, identifier in enumerate(documents.ids)}
    parts = Parts()
    for split, file in files.items():
        table = Table(str(file), _judgments(file))
        parts.splits[split], left_out = collect_judgments(table, texts, rows)
        parts.notes += left_out_note(split, left_out)
    return parts

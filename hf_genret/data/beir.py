"""BEIR's layout: a corpus, queries, and judgments of train, dev and test in other files."""

from __future__ import annotations

from pathlib import Path

from hf_genret.data.collecting import collect_query_texts
from hf_genret.data.folder import QRELS_EXPECTED, DataFile, data_files
from hf_genret.data.jsonl import corpus_file, judged_splits
from hf_genret.data.judgments import collect_judgments, left_out_note, named_judgments
from hf_genret.data.layout import Options, Parts
from hf_genret.data.reading import Table, read_jsonl
from hf_genret.data.schema import Documents
from hf_genret.data.tables import read_judgments, read_query_table
from hf_genret.errors import DataError


def _corpus(path: Path) -> Path | None:
    """corpus.jsonl[.gz]; where judged queries lie beside it, a corpus of the jsonl layout."""
    files = data_files(path)
    for file in files:
        if file.role == "corpus" and not file.split and file.is_jsonl:
            return file.path
    return corpus_file(path) if _qrels(files) and _queries(files) else None


def is_beir(path: Path) -> bool:
    """Whether a folder holds corpus.jsonl[.gz], or other documents with queries and qrels."""
    return path.is_dir() and _corpus(path) is not None


def beir_documents(path: Path, options: Options) -> Documents:
    """The documents of the corpus."""
    corpus = _corpus(path)
    assert corpus is not None  # is_beir found it
    return options.documents(options.jsonl(corpus))


def _qrels(files: list[DataFile]) -> dict[str, DataFile]:
    """Split -> its judgments; a file that names no split is the test's, where no other is there."""
    readable = [file for file in files if file.role == "qrels" and file.is_readable]
    named: dict[str, DataFile] = {}
    for file in readable:
        if file.split is not None:
            named.setdefault(file.split, file)
    return named or ({"test": readable[0]} if readable else {})


def _queries(files: list[DataFile]) -> list[DataFile]:
    """The first file of all queries and the first of each split, those of one JSON a line first."""
    chosen: dict[str | None, DataFile] = {}
    for file in sorted(files, key=lambda file: not file.is_jsonl):
        if file.role == "queries" and file.is_readable:
            chosen.setdefault(file.split, file)
    return list(chosen.values())


def _query_table(file: DataFile, options: Options) -> Table:
    if file.is_jsonl:
        return options.jsonl(file.path)
    options.read.add(file.path)
    return read_query_table(file.path, options.notices)


def _judgment_table(file: DataFile, options: Options) -> Table:
    if file.is_jsonl:
        return named_judgments(options.jsonl(file.path))
    options.read.add(file.path)
    return read_judgments(file.path, options.notices)


def _carries_judgments(queries: list[DataFile]) -> bool:
    """Whether queries name their relevant documents themselves, as in the jsonl layout."""
    if len(queries) != 1 or not queries[0].is_jsonl:
        return False
    return any("relevant" in record for _, record in read_jsonl(queries[0].path).records)


def beir_splits(path: Path, documents: Documents, options: Options) -> Parts:
    """The splits that have a file of judgments.

    Raises:
        DataError: For anything wrong in queries or judgments, with file and line.
    """
    files = data_files(path)
    judged, queries = _qrels(files), _queries(files)
    if not judged:
        return _without_qrels(queries, documents, options)
    if not queries:
        raise DataError("expected queries.jsonl[.gz] beside qrels, found none.", path=path)
    texts = collect_query_texts(_query_table(file, options) for file in queries)
    rows = {identifier: row for row, identifier in enumerate(documents.ids)}
    parts = Parts()
    for split, file in judged.items():
        table = _judgment_table(file, options)
        parts.splits[split], left_out = collect_judgments(table, texts, rows)
        parts.notes += left_out_note(split, left_out)
        if file.split is None:
            name = file.path.relative_to(path)
            parts.notes.append(f"{name} names no split; its judgments are the test's.")
    return parts


def _without_qrels(queries: list[DataFile], documents: Documents, options: Options) -> Parts:
    if _carries_judgments(queries):
        return judged_splits(queries[0].path, documents, options)
    for file in queries:
        what = f"file was not read, for nothing judges its queries; {QRELS_EXPECTED}"
        options.notices.add(what, path=file.path.name)
        options.read.add(file.path)  # said here, not as a file that is not understood
    return Parts()

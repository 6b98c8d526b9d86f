"""One call for every layout of data: the layout is found, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hf_genret.data import beir, interactions, jsonl, saved_datasets
from hf_genret.data.fingerprint import fingerprint
from hf_genret.data.folder import note_unread
from hf_genret.data.layout import Layout, Options, Parts
from hf_genret.data.schema import Documents, RetrievalData
from hf_genret.data.stdlib import is_stdlib, named_stdlib
from hf_genret.errors import ConfigError, DataError
from hf_genret.notices import Notices

#: Tried in this order; the first that matches is read.
LAYOUTS = (
    Layout(
        "BEIR folder",
        "corpus.jsonl[.gz] (with queries.jsonl[.gz] and qrels/{train,dev,test}.tsv)",
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
    Layout(
        "saved dataset",
        "a folder written by datasets' save_to_disk",
        saved_datasets.is_saved_dataset,
        saved_datasets.saved_documents,
        saved_datasets.saved_splits,
    ),
    Layout(
        "jsonl",
        "documents.jsonl[.gz] or a single jsonl file (with queries.jsonl[.gz])",
        jsonl.is_jsonl,
        jsonl.jsonl_documents,
        jsonl.jsonl_splits,
    ),
)


def _find_layout(path: Path) -> Layout:
    if not path.exists():
        raise DataError("expected a data folder or file, found nothing there.", path=path)
    for layout in LAYOUTS:
        if layout.matches(path):
            return layout
    looked_for = "; ".join(layout.looks_for for layout in LAYOUTS)
    there = sorted(file.name for file in path.iterdir())[:_NAMED] if path.is_dir() else []
    named = f"; there are {', '.join(there)}" if there else ""
    raise DataError(f"expected one of: {looked_for}; found none of them{named}.", path=path)


_NAMED = 8  # files that an error names


def _short_name(source: str | Path) -> str:
    name = Path(source).resolve().name
    ending = next((one for one in jsonl.ENDINGS if name.endswith(one)), "")
    return name.removesuffix(ending)


def _is_on_hub(source: str | Path) -> bool:
    """Whether `user/name` can only mean the Hub.

    With a local folder `user` it is a mistyped path, which deserves an answer at once and not
    after the network's retries.
    """
    is_file_name = str(source).endswith(jsonl.ENDINGS)
    is_local = Path(source).exists() or Path(source).parent.is_dir()
    return saved_datasets.is_hub_name(source) and not is_local and not is_file_name


def is_built_in(source: str | Path) -> bool:
    """Whether a source is the name of built-in data and not of a file or folder here."""
    return is_stdlib(source) and not Path(source).exists()


def _read(source: str | Path, options: Options, *, with_splits: bool) -> tuple[Documents, Parts]:
    if _is_on_hub(source):
        found = saved_datasets.open_hub(str(source), streaming=options.streaming)
        documents = saved_datasets.part_documents(found, str(source), options)
        if not with_splits:
            return documents, Parts()
        return documents, saved_datasets.part_splits(found, str(source), documents, options)
    path = Path(source)
    layout = _find_layout(path)
    documents = layout.documents(path, options)
    parts = layout.splits(path, documents, options) if with_splits else Parts()
    note_unread(path, options.read, options.notices, corpus_only=not with_splits)
    return documents, parts


def _built_in(source: str | Path, corpus_field_map: Mapping[str, str] | None) -> RetrievalData:
    if corpus_field_map:
        raise ConfigError(f"'{source}' is built in and has no columns to name.")
    return named_stdlib(str(source))


def load_data(
    source: str | Path,
    *,
    name: str | None = None,
    corpus_field_map: Mapping[str, str] | None = None,
    max_history: int = 20,
    streaming: bool = False,
    strict: bool = False,
) -> RetrievalData:
    """Documents and queries from a folder or file; the layout is detected.

    What cannot be used (judgments of documents that are not there, empty queries, files that are
    not understood) is left out and counted: in a `DataWarning` a kind, and in the data's notes.

    Args:
        source: A BEIR folder, a jsonl folder or file, a saved `datasets` folder, or a folder of
            items and sequences; where no such path exists, a dataset `user/name` of the Hub, or
            `stdlib` (`stdlib:MODULE,MODULE`), the documentation of Python's standard library.
        name: Name for reports; the folder's own by default.
        corpus_field_map: `id`, `title` or `text` -> name of the corpus column that holds it.
        max_history: Items kept of a user's history, the newest.
        streaming: Keep the texts of documents on disk, in Parquet files that vanish with them; see
            `hf_genret.data.streaming.StreamedDocuments` for what is in memory all the same.
        strict: Whether the first thing that would be left out is an error.

    Raises:
        DataError: Missing, of no known layout, or with a fault in it: names file, line and field.
        ConfigError: For an option that cannot work.
    """
    if max_history < 1:
        raise ConfigError(f"max_history has to be 1 or more, found {max_history}.")
    if is_built_in(source):
        return _built_in(source, corpus_field_map)
    options = Options(corpus_field_map, max_history, streaming, Notices(strict))
    documents, parts = _read(source, options, with_splits=True)
    notices = options.notices.warn()
    return RetrievalData(
        name=name or _short_name(source),
        fingerprint=fingerprint(documents, parts.splits),
        documents=documents,
        splits=parts.splits,
        num_users=parts.num_users,
        notes=[*notices, *parts.notes],
    )


def load_documents(
    source: str | Path,
    *,
    corpus_field_map: Mapping[str, str] | None = None,
    streaming: bool = False,
    strict: bool = False,
) -> Documents:
    """The documents alone, from a jsonl file or the corpus of any layout that `load_data` reads.

    Args:
        source: A file or folder.
        corpus_field_map: `id`, `title` or `text` -> name of the corpus column that holds it.
        streaming: As in `load_data`.
        strict: As in `load_data`.

    Raises:
        DataError: Missing, of no known layout, or with a fault in it: names file, line and field.
    """
    if is_built_in(source):
        return _built_in(source, corpus_field_map).documents
    options = Options(corpus_field_map, streaming=streaming, notices=Notices(strict))
    documents, _ = _read(source, options, with_splits=False)
    options.notices.warn()
    return documents

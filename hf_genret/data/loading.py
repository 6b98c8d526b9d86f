"""One call for every layout of data: the layout is found, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hf_genret.data import beir, interactions, jsonl, saved_datasets
from hf_genret.data.fingerprint import fingerprint
from hf_genret.data.layout import Layout, Options, Parts
from hf_genret.data.schema import Documents, RetrievalData
from hf_genret.data.stdlib import is_stdlib, named_stdlib
from hf_genret.errors import ConfigError, DataError

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
    raise DataError(f"expected one of: {looked_for}; found none of them.", path=path)


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
        return documents, saved_datasets.part_splits(
            found if with_splits else {}, str(source), documents
        )
    path = Path(source)
    layout = _find_layout(path)
    documents = layout.documents(path, options)
    return documents, layout.splits(path, documents, options) if with_splits else Parts()


def load_data(
    source: str | Path,
    *,
    name: str | None = None,
    corpus_field_map: Mapping[str, str] | None = None,
    max_history: int = 20,
    streaming: bool = False,
) -> RetrievalData:
    """Documents and queries from a folder or file; the layout is detected.

    Args:
        source: A BEIR folder, a jsonl folder or file, a saved `datasets` folder, or a folder of
            items and sequences; where no such path exists, a dataset `user/name` of the Hub, or
            `stdlib` (`stdlib:MODULE,MODULE`), the documentation of Python's standard library.
        name: Name for reports; the folder's own by default.
        corpus_field_map: `id`, `title` or `text` -> name of the corpus column that holds it.
        max_history: Items kept of a user's history, the newest.
        streaming: Keep the texts of documents on disk, in Parquet files that vanish with them; see
            `hf_genret.data.streaming.StreamedDocuments` for what is in memory all the same.

    Raises:
        DataError: Missing, of no known layout, or with a fault in it: names file, line and field.
        ConfigError: For an option that cannot work.
    """
    if max_history < 1:
        raise ConfigError(f"max_history has to be 1 or more, found {max_history}.")
    if is_built_in(source):
        return named_stdlib(str(source))
    options = Options(corpus_field_map, max_history, streaming)
    documents, parts = _read(source, options, with_splits=True)
    return RetrievalData(
        name=name or _short_name(source),
        fingerprint=fingerprint(documents, parts.splits),
        documents=documents,
        splits=parts.splits,
        num_users=parts.num_users,
        notes=parts.notes,
    )


def load_documents(
    source: str | Path,
    *,
    corpus_field_map: Mapping[str, str] | None = None,
    streaming: bool = False,
) -> Documents:
    """The documents alone, from a jsonl file or the corpus of any layout that `load_data` reads.

    Args:
        source: A file or folder.
        corpus_field_map: `id`, `title` or `text` -> name of the corpus column that holds it.
        streaming: As in `load_data`.

    Raises:
        DataError: Missing, of no known layout, or with a fault in it: names file, line and field.
    """
    if is_built_in(source):
        return named_stdlib(str(source)).documents
    options = Options(corpus_field_map, streaming=streaming)
    return _read(source, options, with_splits=False)[0]

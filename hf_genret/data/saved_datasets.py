"""Data kept with the `datasets` library: a saved folder, or a repository of the Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_genret.data.collecting import collect_query_texts, split_name
from hf_genret.data.judgments import collect_judgments, left_out_note, named_judgments
from hf_genret.data.layout import Options, Parts
from hf_genret.data.reading import Record, Table
from hf_genret.data.schema import Documents
from hf_genret.errors import DataError

#: Columnar tables by part: `corpus`, `queries`, `qrels_train`, `qrels_dev`, `qrels_test`.
SavedParts = Mapping[str, Any]

_MARKERS = ("dataset_dict.json", "state.json")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w.-]+)?")


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return path.is_dir() and any((path / marker).is_file() for marker in _MARKERS)


def is_hub_name(source: str | Path) -> bool:
    """Whether a source can name a repository of the Hub: `user/name` or `user/name:SET`."""
    return isinstance(source, str) and _HUB_NAME.fullmatch(source) is not None


def _name_parts(loaded: Any, where: str) -> SavedParts:
    """A Dataset, or a DatasetDict of one split, is a corpus; otherwise parts have names."""
    if not isinstance(loaded, Mapping):
        return {"corpus": loaded}
    if "corpus" not in loaded and len(loaded) == 1:
        return {"corpus": next(iter(loaded.values()))}
    if "corpus" not in loaded:
        message = f"expected a part named 'corpus', found: {', '.join(sorted(loaded)) or 'none'}."
        raise DataError(message, path=where)
    return loaded


def open_saved(path: Path) -> SavedParts:
    """The parts of a folder written by `save_to_disk`, memory-mapped.

    Raises:
        DataError: When `datasets` cannot read it.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds for a damaged folder
        message = f"expected a saved dataset, but it cannot be read ({_one_line(error)})."
        raise DataError(message, path=path) from error
    return _name_parts(loaded, str(path))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _load_parts(
    name: str, prefix: str, load: Callable[..., Any], configs: list[str], streaming: bool
) -> SavedParts:
    """Corpus and queries in configurations of their own, judgments in another or beside them."""
    start = _prefix(name, prefix, configs)
    if start is None:
        return _name_parts(load(name, streaming=streaming), name)
    parts: dict[str, Any] = {}
    for part in ("corpus", "queries"):
        if start + part in configs:
            loaded = load(name, start + part, streaming=streaming and part == "corpus")
            first, *others = loaded
            parts[part] = loaded[first]
            parts.update({f"{part}_{split}": loaded[split] for split in others})
    named = [config for config in (f"{start}qrels", "default") if config in configs]
    judged = load(name, named[0]) if named else load(f"{name}-qrels")
    for key, table in judged.items():
        parts[f"qrels_{key}"] = table
    return parts


def _prefix(name: str, prefix: str, configs: list[str]) -> str | None:
    """What stands before `corpus` in the configurations; None where none is called so.

    Raises:
        DataError: When several sets lie in one repository and none, or another, was named.
    """
    found = [config.removesuffix("corpus") for config in configs if config.endswith("corpus")]
    wanted = [f"{prefix}-", f"{prefix}_"] if prefix else [""]
    chosen = [start for start in wanted if start in found]
    if not chosen and len(found) == 1 and not prefix:
        chosen = found
    if not chosen and (found or prefix):
        known = ", ".join(f"{name}:{start.strip('-_')}" for start in found if start) or name
        raise DataError(f"'{name}' holds several sets or others than asked for; known: {known}.")
    return chosen[0] if chosen else None


def open_hub(source: str, *, streaming: bool = False) -> SavedParts:
    """The parts of a dataset repository of the Hub.

    Args:
        source: `user/name`. Configurations `corpus` and `queries` are read with judgments in the
            repository `user/name-qrels`, as BEIR publishes them, or in the configuration `qrels`
            or `default`, as MTEB does. Of several sets in one repository (`en-corpus`,
            `de-corpus`) `user/name:en` names one.
        streaming: Read the corpus from the network as it is needed and keep no copy of it.

    Raises:
        DataError: When it cannot be loaded.
    """
    import datasets

    name, _, prefix = source.partition(":")
    try:
        configs = datasets.get_dataset_config_names(name)
        return _load_parts(name, prefix, datasets.load_dataset, configs, streaming)
    except DataError:
        raise
    except Exception as error:  # network, authentication, formats: all end the same way
        raise DataError(
            f"'{name}' is no local path and cannot be loaded from the Hub ({_one_line(error)})."
        ) from error


def _table(parts: SavedParts, part: str, where: str, options: Options) -> Table:
    def records() -> Iterator[tuple[int, Record]]:
        yield from enumerate(parts[part], start=1)

    return Table(f"{where}[{part}]", records(), options.notices)


def part_documents(parts: SavedParts, where: str, options: Options) -> Documents:
    """The documents of the part `corpus`; an error's line is the row, from 1."""
    return options.documents(_table(parts, "corpus", where, options))


def _judged(parts: SavedParts, where: str, options: Options) -> dict[str, str]:
    """Split -> the part with its judgments; a part that is not understood is noted."""
    judged: dict[str, str] = {}
    for part in parts:
        name = part.removeprefix("qrels_")
        split = split_name(name) if name != part else None
        if split is not None and split not in judged:
            judged[split] = part
        elif part != "corpus" and not _holds_queries(part):
            what = "part was not read; expected are qrels_train, qrels_dev and qrels_test"
            Table(f"{where}[{part}]", [], options.notices).note(what)
    return judged


def _holds_queries(part: str) -> bool:
    return part == "queries" or part.startswith("queries_")


def part_splits(parts: SavedParts, where: str, documents: Documents, options: Options) -> Parts:
    """The splits that have a part `qrels_train`, `qrels_dev` or `qrels_test`.

    Raises:
        DataError: For anything wrong in queries or judgments, with part and row.
    """
    judged = _judged(parts, where, options)
    asked = [_table(parts, part, where, options) for part in parts if _holds_queries(part)]
    if judged and not asked:
        raise DataError("expected a part named 'queries' beside the qrels, found none.", path=where)
    if not judged:
        for table in asked:
            table.note("part was not read; no part qrels_train, qrels_dev or qrels_test judges it")
        return Parts()
    texts = collect_query_texts(asked)
    rows = {identifier: row for row, identifier in enumerate(documents.ids)}
    read = Parts()
    for split, part in judged.items():
        table = named_judgments(_table(parts, part, where, options))
        read.splits[split], left_out = collect_judgments(table, texts, rows)
        read.notes += left_out_note(split, left_out)
    return read


def saved_documents(path: Path, options: Options) -> Documents:
    """The documents of a folder written by `save_to_disk`."""
    return part_documents(open_saved(path), str(path), options)


def saved_splits(path: Path, documents: Documents, options: Options) -> Parts:
    """The splits of a folder written by `save_to_disk`."""
    return part_splits(open_saved(path), str(path), documents, options)

"""Which file of a folder holds what: told by its name, in any letter case, packed or not."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from hf_genret.data.collecting import SPLIT_NAMES
from hf_genret.notices import Notices

_ROLES = {
    "corpus": "corpus",
    "documents": "documents",
    "queries": "queries",
    "query": "queries",
    "qrels": "qrels",
    "qrel": "qrels",
}
_TABLES = {"tsv": 0, "csv": 1, "txt": 2}  # in this order, where there are several
_JSONL = {"jsonl": 3, "ndjson": 4}
_UNREAD_ENDINGS = (
    *("json", "parquet", "feather", "xlsx", "xls", "pkl", "trec", "inter"),
    *("zip", "bz2", "xz", "zst", "tar", "tgz"),
)
#: What `save_to_disk` writes beside the data of a part.
_OF_DATASETS = ("dataset_info.json", "dataset_dict.json", "state.json")
#: Words of file names that promise data, beside roles and names of splits, and such endings.
_PROMISING = re.compile(
    "docs|passages|collection|articles|topics|questions|judge?ments|relevance|triples|items|"
    "sequences|interactions|ratings|sessions|inter|trec"
)
QRELS_EXPECTED = "judgments are read from qrels/{train,dev,test} as .tsv, .csv or .jsonl"
_EXPECTED = {
    "qrels": QRELS_EXPECTED,
    "queries": "queries are read from queries.jsonl, .tsv or .csv, with judgments beside them",
    "corpus": "documents are read from one file, corpus.jsonl or documents.jsonl",
    "documents": "documents are read from one file, corpus.jsonl or documents.jsonl",
}
_EXPECTED_ELSE = (
    "what is read: corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv, "
    "or items.jsonl and sequences.tsv"
)


@dataclass(frozen=True)
class DataFile:
    """A file of a data folder whose name promises data.

    Attributes:
        path: The file.
        role: `corpus`, `documents`, `queries` or `qrels`; None where the name says none or two.
        split: `train`, `dev` or `test` where the name says it.
        ending: `jsonl`, `tsv`, `csv`, `txt`, or another that is not read.
        packed: Whether it ends in `.gz`.
        understood: Whether the name says nothing more than this.
    """

    path: Path
    role: str | None
    split: str | None
    ending: str
    packed: bool
    understood: bool

    @property
    def is_jsonl(self) -> bool:
        """Whether it is known what it holds, one JSON object a line."""
        return self.understood and self.ending in _JSONL

    @property
    def is_readable(self) -> bool:
        """Whether it is known what it holds, in that form or in lines parted into columns."""
        return self.understood and (self.ending in _JSONL or self.ending in _TABLES)


def _words(stem: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", stem.lower()) if word]


def _promises(word: str) -> bool:
    return word in SPLIT_NAMES or _PROMISING.fullmatch(word) is not None


def _data_file(path: Path, folder_role: str | None) -> DataFile | None:
    """What a name says; None where it promises no data."""
    name = path.name.lower()
    packed = name.endswith(".gz")
    stem, _, ending = name.removesuffix(".gz").rpartition(".")
    if ending in ("qrels", "qrel"):  # test.qrels
        stem, ending = f"{stem}.{ending}", "txt"
    if name in _OF_DATASETS or ending not in (*_TABLES, *_JSONL, *_UNREAD_ENDINGS):
        return None
    words = _words(stem)
    roles = {_ROLES[word] for word in words if word in _ROLES} or {folder_role} - {None}
    if not roles and not any(map(_promises, (*words, ending))):
        return None
    rest = [word for word in words if word not in _ROLES]
    split = SPLIT_NAMES.get(rest[0]) if len(rest) == 1 else None
    understood = len(roles) == 1 and (not rest or split is not None)
    role = roles.pop() if len(roles) == 1 else None
    return DataFile(path, role, split, ending, packed, understood)


def _paths(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """The files of a folder and of those in it that are called as a role, with that role."""
    for entry in sorted(folder.iterdir()):
        role = _ROLES.get(entry.name.lower())
        if entry.is_file():
            yield entry, None
        elif role is not None and entry.is_dir():
            yield from ((file, role) for file in sorted(entry.iterdir()) if file.is_file())


def data_files(folder: Path) -> list[DataFile]:
    """The files of a folder whose names promise data, those that are read first in front.

    A plain file comes before a packed one, .tsv before .csv, .txt and .jsonl, a name in small
    letters before others, `dev` before `validation`.
    """
    if not folder.is_dir():
        return []
    named = [_data_file(path, role) for path, role in _paths(folder) if path.name[0] != "."]
    return sorted((file for file in named if file is not None), key=_order)


def _order(file: DataFile) -> tuple[bool, int, bool, int, str]:
    name = file.path.name
    places = [n for n, split in enumerate(SPLIT_NAMES) if split in _words(name)]
    ending = (_TABLES | _JSONL).get(file.ending, len(_TABLES | _JSONL))
    return file.packed, ending, name != name.lower(), places[0] if places else -1, name


def note_unread(
    folder: Path, read: Collection[Path], notices: Notices, *, corpus_only: bool = False
) -> None:
    """Note every file whose name promises data and that was not read.

    Args:
        folder: The data folder; a file has no neighbours to note.
        read: What was read.
        notices: Where to note.
        corpus_only: Note files of documents alone, where nothing else was wanted.
    """
    for file in data_files(folder):
        wanted = not corpus_only or file.role in ("corpus", "documents")
        if wanted and file.path not in read:
            expected = _EXPECTED.get(file.role or "", _EXPECTED_ELSE)
            name = str(file.path.relative_to(folder))
            notices.add(f"file was not read; {expected}", path=name)

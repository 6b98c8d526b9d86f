"""Recommendation: items.jsonl and sequences.tsv, split by leaving one out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hf_genret.data.collecting import CorpusFields, UniqueIds, check_id
from hf_genret.data.layout import Options, Parts
from hf_genret.data.reading import Table, find, read_lines
from hf_genret.data.schema import Documents, Queries
from hf_genret.errors import DataError
from hf_genret.notices import Notices

_USER_NAMES = ("user_id", "user", "userid", "uid", "session_id", "session", "sessionid", "sid")
#: With fewer items a user has no history left beside a dev and a test target.
MIN_ITEMS = 3


@dataclass
class Sequences:
    """All users' items in one array.

    Attributes:
        users: User ids in order of the file; the position is the user's number.
        rows: Item rows of all users, one user after the other, oldest first, int64.
        starts: Where each user begins in `rows`, and the end: int64 [users + 1].
    """

    users: list[str]
    rows: np.ndarray
    starts: np.ndarray


@dataclass
class _Collector:
    """A split under construction: one query a (user, position)."""

    sequences: Sequences
    max_history: int
    ids: list[str] = field(default_factory=list)
    relevant: list[dict[int, float]] = field(default_factory=list)
    histories: list[np.ndarray] = field(default_factory=list)
    users: list[int] = field(default_factory=list)

    def add(self, user: int, positions: Iterable[int]) -> None:
        """Queries whose targets stand at the given positions of a user's sequence."""
        start, name = int(self.sequences.starts[user]), self.sequences.users[user]
        rows = self.sequences.rows
        for position in positions:
            target = start + position
            self.ids.append(f"{name}:{position}")
            self.relevant.append({int(rows[target]): 1.0})
            # A slice shares memory: 131,000 histories cost no copy of the items.
            self.histories.append(rows[max(start, target - self.max_history) : target])
            self.users.append(user)

    def queries(self) -> Queries:
        users = np.asarray(self.users, dtype=np.int64)
        return Queries(self.ids, self.relevant, histories=self.histories, users=users)


def is_interactions(path: Path) -> bool:
    """Whether a folder holds items.jsonl[.gz] and sequences.tsv[.gz]."""
    return path.is_dir() and all(find(path, name) for name in ("items.jsonl", "sequences.tsv"))


def interaction_documents(path: Path, options: Options) -> Documents:
    """The items of items.jsonl[.gz]."""
    items = find(path, "items.jsonl")
    assert items is not None  # is_interactions found it
    fields = CorpusFields(id=("item_id", "_id", "id"), titles_do=True)
    return options.documents(options.jsonl(items), fields)


def _is_header(columns: list[str], rows: Mapping[str, int]) -> bool:
    """Whether a first line names its columns: by the user's name, and by no item's."""
    name = columns[0].strip().lower().lstrip("#")
    return name in _USER_NAMES and not any(item in rows for item in columns[1].split())


def read_sequences(
    path: Path, rows: Mapping[str, int], notices: Notices | None = None
) -> Sequences:
    """Users and their items from a file of `user_id TAB item ids parted by spaces`.

    Items that are not there are left out, and users that no item is left of.

    Args:
        path: The file; a first line that names the columns is a header.
        rows: Rows of all items by id.
        notices: Where it is noted what is left out.

    Raises:
        DataError: Duplicate users, lines of another form, or no user.
    """
    table = Table(str(path), [], notices if notices is not None else Notices())
    seen = UniqueIds(table, "user_id")
    users: list[str] = []
    flat: list[int] = []
    starts = [0]
    for line, text in read_lines(path):
        columns = text.split("\t")
        if len(columns) != 2:
            message = f"expected user_id, a tab and item ids parted by spaces, found {text[:40]!r}."
            raise DataError(message, path=path, line=line)
        if line == 1 and _is_header(columns, rows):
            continue
        user = check_id(columns[0], table, line, "user_id")
        seen.add(user, line)
        flat += _items(columns[1].split(), rows, table, line)
        if len(flat) == starts[-1]:
            table.note("users without an item left out", line=line, example=user)
            continue
        users.append(user)
        starts.append(len(flat))
    if not users:
        raise DataError("expected users with items, found none.", path=path)
    return Sequences(users, np.asarray(flat, np.int64), np.asarray(starts, np.int64))


def _items(items: list[str], rows: Mapping[str, int], table: Table, line: int) -> list[int]:
    """The rows of a user's items; those that are not there are left out."""
    for item in items:
        if item not in rows:
            what = "steps of sequences left out, since items.jsonl lacks their item"
            table.note(what, line=line, example=item)
    return [rows[item] for item in items if item in rows]


def leave_one_out(sequences: Sequences, max_history: int) -> Parts:
    """The last item of every user is the test target, the one before the dev target.

    Every position t >= 1 of the rest is a training query: the items before t are its history.
    Histories are cut to the newest `max_history` items. Users with fewer than three items
    train only.

    Args:
        sequences: All users' items.
        max_history: Items kept of a history.
    """
    splits = {s: _Collector(sequences, max_history) for s in ("train", "dev", "test")}
    short = 0
    for user, length in enumerate(np.diff(sequences.starts).tolist()):
        if length < MIN_ITEMS:
            short += 1
            splits["train"].add(user, range(1, length))
            continue
        splits["train"].add(user, range(1, length - 2))
        splits["dev"].add(user, [length - 2])
        splits["test"].add(user, [length - 1])
    notes = [
        "Leave-one-out: each user's last item is the test target, the one before the dev target; "
        "every later position of the rest is a training query with the items before it as "
        f"history (newest {max_history} items; the test history holds the dev target)."
    ]
    if short:
        notes.append(f"{short} users with fewer than {MIN_ITEMS} items are in train only.")
    found = {name: collector.queries() for name, collector in splits.items() if collector.ids}
    return Parts(found, num_users=len(sequences.users), notes=notes)


def interaction_splits(path: Path, documents: Documents, options: Options) -> Parts:
    """Leave-one-out splits of sequences.tsv[.gz].

    Raises:
        DataError: For anything wrong in the sequences, with the line.
    """
    file = find(path, "sequences.tsv")
    assert file is not None  # is_interactions found it
    rows = {identifier: row for row, identifier in enumerate(documents.ids)}
    options.read.add(file)
    return leave_one_out(read_sequences(file, rows, options.notices), options.max_history)

"""Judgments from records of any format: names of columns understood, one split collected."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from hf_genret.data.collecting import check_id
from hf_genret.data.reading import Record, Table
from hf_genret.data.schema import Queries
from hf_genret.errors import DataError

COLUMNS = ("query-id", "corpus-id", "score")
_NAMES = {
    "query-id": ("queryid", "qid", "query", "topic", "topicid"),
    "corpus-id": (
        *("corpusid", "docid", "docno", "documentid", "did", "pid", "passageid", "itemid"),
        *("doc", "document", "corpus"),
    ),
    "score": ("score", "rel", "relevance", "relevancescore", "label", "rating", "grade", "gain"),
}
_COLUMN_OF = {name: column for column, names in _NAMES.items() for name in names}
#: TREC's second column, which says nothing.
_ITERATION = ("iter", "iteration", "q0", "0")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def names_all(names: Sequence[str]) -> bool:
    """Whether names of columns are those of all three, in any order."""
    return {_COLUMN_OF.get(_plain(name)) for name in names} >= set(COLUMNS)


def judged_columns(names: Sequence[str], table: Table, line: int) -> dict[str, str]:
    """Which of some columns holds what, by their names in any order.

    Args:
        names: Of the columns, for example `query_id`, `docid`, `rel`.
        table: Where they stand, for errors; a further column is noted there.
        line: Its line.

    Returns:
        `query-id`, `corpus-id` and `score` -> name of the column.

    Raises:
        DataError: When one of the three is missing, or two columns say the same.
    """
    columns: dict[str, str] = {}
    further = []
    for name in names:
        column = _COLUMN_OF.get(_plain(name))
        if column in columns:
            message = f"expected one column of {column}, found '{columns[column]}' and '{name}'."
            raise DataError(message, path=table.path, line=line)
        if column is None:
            further.append(name)
        else:
            columns[column] = name
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        message = (
            f"expected columns {', '.join(COLUMNS)}, found {', '.join(map(repr, names))}: "
            f"none of them is {missing[0]}."
        )
        raise DataError(message, path=table.path, line=line)
    for name in further:
        if _plain(name) not in _ITERATION:
            table.note(f"columns '{name}' of judgments were not read", line=line)
    return columns


def named_judgments(table: Table) -> Table:
    """Records under the names that `collect_judgments` reads, whatever theirs are.

    Args:
        table: One record a judgment.
    """

    def records() -> Iterator[tuple[int, Record]]:
        known: dict[tuple[str, ...], dict[str, str]] = {}
        for line, record in table.records:
            names = tuple(record)
            if names not in known:
                known[names] = judged_columns(names, table, line)
            yield line, {column: record[name] for column, name in known[names].items()}

    return Table(table.path, records(), table.notices)


def _score(value: object, table: Table, line: int) -> float:
    try:
        score = float(value)  # type: ignore[arg-type]  # whatever else it is raises TypeError
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        message = f"expected a number, found '{value}'."
        raise DataError(message, path=table.path, line=line, field="score")
    return score


def collect_judgments(
    table: Table, query_texts: Mapping[str, str], rows: Mapping[str, int]
) -> tuple[Queries, int]:
    """One split from records of `query-id`, `corpus-id` and `score`.

    A judgment of a query or a document that is not there is left out and noted. Judgments of 0 or
    less are not relevant; a query that has no other is left out.

    Args:
        table: One record a judgment.
        query_texts: Texts of all queries by id.
        rows: Rows of all documents by id.

    Returns:
        The queries in order of appearance, and how many were left out.

    Raises:
        DataError: Scores that are no numbers, contradictions, or nothing left of the split.
    """
    scores: dict[str, dict[int, float]] = {}
    read = 0
    for line, record in table.records:
        read += 1
        query = check_id(record.get("query-id"), table, line, "query-id")
        document = check_id(record.get("corpus-id"), table, line, "corpus-id")
        score = _score(record.get("score"), table, line)
        row = rows.get(document)
        gains = scores.setdefault(query, {}) if query in query_texts else None
        if gains is None:
            what = "judgments left out, since queries lack their query or its text"
            table.note(what, line=line, example=query)
        elif row is None:
            what = "judgments left out, since the corpus lacks their document"
            table.note(what, line=line, example=document)
        elif gains.setdefault(row, score) != score:
            message = f"query '{query}' and document '{document}' have another score further up."
            raise DataError(message, path=table.path, line=line, field="score")
    relevant = {q: {r: s for r, s in gains.items() if s > 0} for q, gains in scores.items()}
    kept = [query for query, gains in relevant.items() if gains]
    if not kept:
        raise DataError(_nothing_left(table, scores, read), path=table.path)
    queries = Queries(
        ids=kept,
        relevant=[relevant[query] for query in kept],
        texts=[query_texts[query] for query in kept],
    )
    return queries, len(relevant) - len(kept)


def _nothing_left(table: Table, scores: Mapping[str, Mapping[int, float]], read: int) -> str:
    if any(scores.values()):
        return "expected judgments above 0, found none above 0."
    if not read:
        return "expected judgments above 0, found none."
    lacking = "documents" if scores else "queries"
    return (
        f"expected judgments of queries and documents that are there, found none of {read:,}; "
        f"the ids of the {lacking} may be others."
    )


def left_out_note(split: str, count: int) -> list[str]:
    """The note about queries without a judgment above 0, none where there are none."""
    if not count:
        return []
    return [f"{split}: {count} queries without a judgment above 0 were left out."]

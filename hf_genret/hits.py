"""From queries to hits: what is asked, what may be found, and the documents that were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_genret.data.schema import Queries
from hf_genret.encoding import QuerySource, encode, pad_histories
from hf_genret.errors import DataError
from hf_genret.modeling import EncoderOutput, GenRetModel, SearchOutput

if TYPE_CHECKING:
    from hf_genret.documents import DocumentStore
    from hf_genret.state import State

Only = Iterable[str] | Callable[[dict[str, Any]], bool]
BATCH = 64
"""Queries searched at once."""


@dataclass(frozen=True)
class Hit:
    """One document found.

    Attributes:
        id: The document's id.
        score: Ranker and beam together; higher is better, comparable within one query.
        docid: The learned id through which it was found, one code a level.
        document: `id`, `title`, `text` and the extra columns.
    """

    id: str
    score: float
    docid: tuple[int, ...]
    document: dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """How much is searched and what may be found.

    Attributes:
        k: Hits wanted.
        num_beams: Leaves visited; None leaves the choice to the search.
        allowed: [documents] bool, or [S, documents]; None for all.
        part: [queries], which of the S sets is each query's; None where there is one.
        exclude_history: Leave out what a query's history holds.
    """

    k: int
    num_beams: int | None = None
    allowed: torch.Tensor | None = None
    part: torch.Tensor | None = None
    exclude_history: bool = False

    def __post_init__(self) -> None:
        for name in ("k", "num_beams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"{name} must be positive, found {value}.")


def find_hits(state: State, queries: Queries, limits: Limits) -> list[list[Hit]]:
    """Hits of every query, in order.

    Raises:
        DataError: When nothing is indexed, or histories are given to a model that reads none.
    """
    if len(queries) == 0:
        return []
    check_histories(state.model, queries)
    if len(state.model.index) == 0:
        raise DataError("nothing is indexed yet; use index(documents).")
    source = QuerySource(state.model, queries, state.processing_class)
    hits: list[list[Hit]] = [[] for _ in range(len(queries))]
    for numbers, encoded in encode(state.model, source, batch_size=BATCH, description="Searching"):
        left_out = None
        if limits.exclude_history and queries.histories is not None:
            left_out = pad_histories([queries.histories[i] for i in numbers])
        part = None if limits.part is None else limits.part[torch.as_tensor(numbers)]
        found = search_wide(state.model, encoded, replace(limits, part=part), left_out)
        for place, number in enumerate(numbers):
            hits[number] = _hits_of(found, place, state.documents)
    return hits


def check_histories(model: GenRetModel, queries: Queries) -> None:
    """Refuse histories that a model would leave unread.

    Raises:
        DataError: When there are some and the model reads none.
    """
    if queries.histories is not None and model.encoder.history is None:
        raise DataError("this model reads text, not histories; leave history= out.")


def leaves_history_out(state: State) -> bool:
    """Whether a history's items are left out of what it is recommended.

    Yes, unless the checkpoint was trained on users who take things again; one that reads text was
    not trained for it.
    """
    reads_text = state.model.encoder.query is not None
    return reads_text or bool(state.facts.get("exclude_history", True))


def search_wide(
    model: GenRetModel, encoded: EncoderOutput, limits: Limits, left_out: torch.Tensor | None
) -> SearchOutput:
    """One batch; a beam that is free to choose is doubled while it brings fewer than k hits."""
    leaves = model.index.num_nodes[-1]
    beams = model.default_beams(limits.allowed)
    if limits.num_beams is not None:
        beams = min(limits.num_beams, leaves)
    while True:
        found: SearchOutput = model.search(
            k=limits.k,
            num_beams=beams,
            exclude=left_out,
            allowed=limits.allowed,
            part=limits.part,
            encoder_outputs=encoded,
        )
        filled = found.rows.shape[1] == limits.k and bool((found.rows >= 0).all())
        last = limits.num_beams is not None or beams >= leaves or bool(found.complete.all())
        if filled or last:
            return found
        beams = min(2 * beams, leaves)


def _hits_of(found: SearchOutput, place: int, documents: DocumentStore) -> list[Hit]:
    rows, scores = found.rows[place].tolist(), found.scores[place].tolist()
    codes = found.codes[place].tolist()
    return [
        Hit((document := documents[row])["id"], score, tuple(docid), document)
        for row, score, docid in zip(rows, scores, codes, strict=True)
        if row >= 0
    ]


def rows_of(documents: DocumentStore, histories: Sequence[Any]) -> list[np.ndarray]:
    """Histories of ids as histories of document rows.

    Raises:
        DataError: An unknown id, or a text where a list of ids was expected.
    """
    if isinstance(histories, str) or any(isinstance(ids, str) for ids in histories):
        raise DataError("a history is a list of ids, found a text.")
    return [np.asarray([documents.row_of(one) for one in ids], np.int64) for ids in histories]


def filters_of(
    documents: DocumentStore, only: Only | Sequence[Only | None] | None, queries: int | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """`only` as sets of rows, and which of them each query has.

    Args:
        documents: What may be found.
        only: One filter for all queries, or a list with one for each.
        queries: How many there are; None for one that stands alone, which has one filter.

    Returns:
        [documents] bool and None; or [S, documents] and [queries], equal filters made once.

    Raises:
        DataError: As `allowed_rows`, or another number of filters than of queries.
    """
    if (
        queries is None
        or not isinstance(only, list | tuple)
        or isinstance(next(iter(only), ""), str)
    ):
        return allowed_rows(documents, only), None  # type: ignore[arg-type]
    if len(only) != queries:
        raise DataError(f"found {len(only)} filters for {queries} queries.")
    known = {id(one): one for one in only}  # made once where several queries share it
    rows = [allowed_rows(documents, one) for one in known.values()]
    whole = torch.ones(len(documents), dtype=torch.bool)
    place = {key: number for number, key in enumerate(known)}
    sets = torch.stack([whole if row is None else row for row in rows])
    return sets, torch.tensor([place[id(one)] for one in only])


def allowed_rows(documents: DocumentStore, only: Only | None) -> torch.Tensor | None:
    """`only` as a mask over document rows, None for all.

    Raises:
        DataError: An unknown id, or nothing that could be found.
    """
    if only is None:
        return None
    if isinstance(only, str):
        raise DataError("only= wants a list of ids or a function, found a text.")
    if callable(only):
        allowed = torch.tensor([bool(only(document)) for document in documents], dtype=torch.bool)
    else:
        allowed = torch.zeros(len(documents), dtype=torch.bool)
        allowed[[documents.row_of(identifier) for identifier in only]] = True
    if not bool(allowed.any()):
        raise DataError("only= leaves no document that could be found.")
    return allowed


def check_texts(texts: Sequence[object]) -> None:
    """Refuse queries that are no text or have none.

    Raises:
        DataError: Naming the first one.
    """
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"query {number} should be a text, found {type(text).__name__}.")
        if not text.strip():
            raise DataError(f"query {number} is empty; some text was expected.")


def unjudged(
    count: int,
    texts: list[str] | None = None,
    histories: list[np.ndarray] | None = None,
    users: np.ndarray | None = None,
) -> Queries:
    """Queries without ids and judgments."""
    return Queries([""] * count, [{} for _ in range(count)], texts, histories, users)

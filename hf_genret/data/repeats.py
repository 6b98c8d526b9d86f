"""Targets that stand in their own history: what a user takes again."""

from __future__ import annotations

from collections.abc import Mapping

from hf_genret.data.schema import Queries, RetrievalData
from hf_genret.notices import Notices

MANY = 0.1
"""Share of such queries from which on histories are not left out of results by default."""


def repeated_targets(queries: Queries) -> list[int]:
    """Numbers of the queries that only items of their own history answer."""
    if queries.histories is None:
        return []
    pairs = zip(queries.relevant, queries.histories, strict=True)
    return [
        number
        for number, (gains, history) in enumerate(pairs)
        if gains and gains.keys() <= set(history.tolist())
    ]


def leaves_history_out(splits: Mapping[str, Queries], wish: bool | None) -> bool:
    """Whether items of a history are left out of its results.

    Args:
        splits: Of the data; train and dev decide.
        wish: What the user says; None leaves it to the data.

    Returns:
        The wish; else no, where a tenth or more of the training or dev queries could then never
        find what answers them.
    """
    if wish is not None:
        return wish
    looked_at = [splits[name] for name in ("train", "dev") if len(splits.get(name, ()))]
    return all(len(repeated_targets(queries)) < MANY * len(queries) for queries in looked_at)


def repeat_notices(splits: Mapping[str, Queries], left_out: bool, decided: bool) -> Notices:
    """What has to be said of targets that stand in their history.

    Args:
        splits: The splits that are used.
        left_out: Whether histories are left out of results.
        decided: Whether nobody asked for that or for the opposite.
    """
    notices = Notices()
    for name, queries in splits.items():
        repeated = repeated_targets(queries)
        if not repeated:
            continue
        what = f"of {len(queries):,} targets stand in their own history"
        if left_out:
            what += " and cannot be found, since histories are left out of results"
        elif decided:
            what += "; histories are therefore not left out (search.exclude_history=true does so)"
        notices.add(what, path=name, example=queries.ids[repeated[0]], count=len(repeated))
    return notices


def note_repeats(
    data: RetrievalData, splits: Mapping[str, Queries], left_out: bool, decided: bool
) -> None:
    """Warn of targets that stand in their history, and add it to the notes of the data.

    Args:
        data: Gets the notes, each once.
        splits: As in `repeat_notices`, like the rest.
        left_out: See there.
        decided: See there.
    """
    said = repeat_notices(splits, left_out, decided).warn()
    data.notes += [sentence for sentence in said if sentence not in data.notes]

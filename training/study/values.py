"""Values of the factors and what a training may cost: the full study, and the quick one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Values:
    """Values of the factors, and what a training may cost.

    Attributes:
        shares: Of the corpus.
        dims: Rank of the map in the dense score q^T A B^T d, below the encoder's own width.
        decoders: Width and blocks of the decoder.
        maps: Maps that dense retrieval learns: `1` on queries, `2` on queries and documents, `3`
            a bilinear one as well.
        negatives: Random negatives of each query; 0 is the other positives of the batch.
        ratios: Share of hard ones among a fixed number of negatives.
        similarities: Of query and document.
        ids: Where ids come from.
        beams: Leaves visited.
        most: Documents at most; None for all.
        settings: Overrides for all cells, before the user's.
        query_settings: Of the training queries.
    """

    shares: tuple[float, ...]
    dims: tuple[int, ...]
    decoders: tuple[tuple[int, int], ...]
    maps: tuple[int, ...]
    negatives: tuple[int, ...]
    ratios: tuple[float, ...]
    similarities: tuple[str, ...]
    ids: tuple[str, ...]
    beams: tuple[int, ...]
    most: int | None
    settings: tuple[str, ...]
    query_settings: tuple[str, ...] = ()


def _budget(stage_steps: dict[str, int], evaluations: int, dev: int) -> tuple[str, ...]:
    """Every stage for a number of steps, whatever the corpus: epochs do not end it before."""
    steps = [
        setting
        for stage, count in stage_steps.items()
        for setting in (f"stages.{stage}.epochs=1000", f"stages.{stage}.max_steps={count}")
    ]
    looks = [f"stages.{stage}.evaluations={evaluations}" for stage in ("encoder", "final")]
    return (
        *steps,
        *looks,
        "stages.ranker.evaluations=1",
        f"queries.dev_limit={dev}",
        "search.beam_weights=[0.0,0.02,0.1]",
    )


FULL = Values(
    shares=(0.1, 0.25, 0.5, 1.0),
    dims=(16, 32, 64, 128),
    decoders=((32, 1), (64, 1), (128, 2), (256, 4)),
    maps=(1, 2, 3),
    negatives=(1, 7, 31, 127, 0),
    ratios=(0.0, 0.25, 0.5, 0.75, 1.0),
    similarities=("dot", "cosine", "bilinear", "low_rank"),
    ids=("atomic", "title", "rq", "kmeans", "learned"),
    beams=(1, 2, 5, 10, 20, 50, 100, 200),
    most=None,
    settings=_budget(
        {
            "encoder": 200,
            "hard": 100,
            "level-1": 150,
            "level-2": 150,
            "em": 100,
            "ids": 100,
            "final": 300,
            "ranker": 100,
        },
        evaluations=3,
        dev=300,
    ),
    query_settings=("queries.pseudo=2",),
)
"""Three hours at most on two cores for some 15,000 documents and a frozen MiniLM."""

QUICK = Values(
    shares=(0.25, 0.5, 1.0),
    dims=(16, 64),
    decoders=((32, 1), (128, 2)),
    maps=(1, 2),
    negatives=(1, 31, 0),
    ratios=(0.0, 0.5, 1.0),
    similarities=("cosine", "bilinear"),
    ids=("rq", "learned"),
    beams=(1, 5, 20),
    most=2000,
    settings=_budget(
        {
            "encoder": 60,
            "hard": 30,
            "level-1": 50,
            "level-2": 50,
            "em": 30,
            "ids": 30,
            "final": 100,
            "ranker": 30,
        },
        evaluations=1,
        dev=100,
    ),
    query_settings=("queries.pseudo=2",),
)
"""The same command in minutes: it shows that everything runs, not what is true."""

"""What an explanation says, and how it reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A code that exists after a prefix.

    Attributes:
        prefix: The codes up to and with this one.
        probability: P(code | query, codes before), among all codes of the level.
        documents: Documents below the prefix.
        words: Typical words of these documents, see `hf_genret.explain.words.PrefixWords`.
    """

    prefix: tuple[int, ...]
    probability: float
    documents: int
    words: tuple[str, ...]

    @property
    def code(self) -> int:
        """The code itself."""
        return self.prefix[-1]


@dataclass(frozen=True)
class Step:
    """One level of an id.

    Attributes:
        taken: The code of the document's id.
        siblings: The most probable codes that exist beside it, best first.
        rank: Place of the code taken among those that exist, from 1.
        ways: How many exist, the one taken included.
        beam: Place of the prefix among the beams kept at this level, from 1; None where the beam
            search has dropped it.
    """

    taken: Choice
    siblings: tuple[Choice, ...]
    rank: int
    ways: int
    beam: int | None


@dataclass(frozen=True)
class Explanation:
    """Why a search finds a document, or where it loses it.

    Attributes:
        query: What was asked; ids of a history where there was no text.
        id: The document's id.
        title: Its title, its id where it has none.
        docid: Its learned id; of several the most probable that the search came to.
        steps: One a level.
        path_score: log P(docid | query), the sum over the steps.
        similarity: Of query and document, as the ranker sees it.
        beam_weight: What `path_score` counts in `score`; None where it decides alone and the
            similarity only among documents of one id.
        score: What a hit of it carries.
        beams: Leaves that the search visits.
        lost_at: Level, from 1, at which the beam search drops the id; None where it keeps it.
        rank: Place among the documents that the search ranks, from 1; None where it is not one.
        ranked: How many those are.
        merged_score: What the scores of all its ids come to and what counts in `score` in place of
            `path_score`, where a model merges them; else None.
    """

    query: str
    id: str
    title: str
    docid: tuple[int, ...]
    steps: tuple[Step, ...]
    path_score: float
    similarity: float
    beam_weight: float | None
    score: float
    beams: int
    lost_at: int | None
    rank: int | None
    ranked: int
    merged_score: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the beam search visits the document's bucket."""
        return self.lost_at is None

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), "reached": self.reached}

    def verdict(self) -> str:
        """One sentence: found at which place, or lost where."""
        if self.lost_at is not None:
            return (
                f"not reached: of {self.beams} beams none is at {join(self.docid[: self.lost_at])} "
                f"after level {self.lost_at}."
            )
        if self.rank is None:
            return f"reached by {self.beams} beams, and left out of the result."
        return f"reached by {self.beams} beams, number {self.rank} of {self.ranked:,} ranked."

    def __str__(self) -> str:
        """Several lines for people."""
        lines = [f"{self.id}: {self.title}" if self.title != self.id else self.id]
        lines.append(f"docid {join(self.docid)}, {self.verdict()}")
        for level, step in enumerate(self.steps, start=1):
            place = f"beam {step.beam}" if step.beam else "dropped by the beam"
            lines.append(f"level {level}: number {step.rank} of {step.ways} codes, {place}")
            lines.append(_line("->", step.taken))
            lines.extend(_line("  ", sibling) for sibling in step.siblings)
        lines.append(f"{self.formula()} = {self.score:.4f}")
        return "\n".join(lines)

    def of_ids(self) -> tuple[str, float]:
        """What counts of the document's ids: its name and value."""
        if self.merged_score is not None:
            return "score of all its docids", self.merged_score
        return "log P(docid)", self.path_score

    def formula(self) -> str:
        """How the score comes about."""
        name, score = self.of_ids()
        if self.beam_weight is None:
            return name
        path = f"{self.beam_weight:g} × {name} {score:.4f}"
        return f"similarity {self.similarity:.4f} + {path}"


def join(docid: tuple[int, ...]) -> str:
    """A docid or a prefix as it is written: 3-17."""
    return "-".join(str(code) for code in docid)


def _line(mark: str, choice: Choice) -> str:
    documents = f"{choice.documents:,} document{'s' if choice.documents != 1 else ''}"
    percent = f"{100 * choice.probability:.1f} %"
    return f"  {mark} {join(choice.prefix):10s} {percent:>7}  {documents:15s} " + ", ".join(
        choice.words
    )

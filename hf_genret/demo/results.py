"""Results as cards, each with the reasons for it level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_genret.demo import parts

if TYPE_CHECKING:
    from hf_genret.demo.answers import Answer
    from hf_genret.explain import Choice, Explanation, Step
    from hf_genret.hits import Hit

_TITLE, _SNIPPET = 120, 240


def results_html(answer: Answer) -> str:
    """The hits of a search, the reasons for the first one open."""
    if not answer.hits:
        return ""
    cards = [
        _card(rank, hit, why)
        for rank, (hit, why) in enumerate(zip(answer.hits, answer.why, strict=True), start=1)
    ]
    return f'<ol class="g-hits">{"".join(cards)}</ol>'


def _card(rank: int, hit: Hit, why: Explanation) -> str:
    title = parts.text(hit.document.get("title") or hit.id, _TITLE)
    snippet = parts.text(hit.document.get("text"), _SNIPPET)
    opened = " open" if rank == 1 else ""
    return (
        f'<li class="g-hit" style="{parts.hue(hit.docid)}">'
        f'<div class="g-head"><span class="g-rank">{rank}</span>'
        f'<span class="g-title">{title}</span>{parts.docid(hit.docid)}'
        f'<span class="g-score" title="ranker and beam together">{hit.score:.3f}</span></div>'
        f'<p class="g-snippet">{snippet}</p>'
        f"<details{opened}><summary>Why this document</summary>{why_html(why)}</details></li>"
    )


def why_html(why: Explanation) -> str:
    """The path to a document: what could be written at each level, then what the ranker said."""
    steps = [_step(level, len(why.steps), step) for level, step in enumerate(why.steps, start=1)]
    return f'<div class="g-why">{"".join(steps)}{_ranked(why)}</div>'


def _step(level: int, levels: int, step: Step) -> str:
    choices = sorted((step.taken, *step.siblings), key=lambda choice: -choice.probability)
    lines = "".join(_choice(choice, choice is step.taken) for choice in choices)
    left = step.ways - len(choices)
    more = f'<li class="g-more">and {left:,} less probable</li>' if left > 0 else ""
    kept = f"beam {step.beam}" if step.beam else "dropped by the beam"
    return (
        f'<section class="g-step"><h4>Code {level} of {levels}'
        f"<small>{step.ways:,} exist here · {kept}</small></h4>"
        f"<ul>{lines}{more}</ul></section>"
    )


def _choice(choice: Choice, taken: bool) -> str:
    mark = ' class="g-taken" aria-current="true"' if taken else ""
    return (
        f'<li{mark} style="{parts.hue(choice.prefix)}">'
        f"{parts.chip(choice.prefix)}{parts.bar(choice.probability)}"
        f'<span class="g-percent">{parts.percent(choice.probability)}</span>'
        f"{parts.words(choice.words)}"
        f'<span class="g-count">{parts.documents(choice.documents, "doc")}</span></li>'
    )


def _ranked(why: Explanation) -> str:
    bucket = why.steps[-1].taken.documents
    lines = [
        f"{parts.documents(bucket)} under {parts.chip(why.docid)}",
        f"one of the {why.beams:,} most probable ids visited",
        f"similarity to the query <b>{why.similarity:.3f}</b>",
    ]
    if why.beam_weight:
        name, score = why.of_ids()
        lines.append(f"plus {why.beam_weight:g} × {name} = {score:.2f}")
    if why.rank is not None:
        lines.append(f"number <b>{why.rank:,}</b> of {why.ranked:,} ranked")
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f'<section class="g-step g-ranked"><h4>Rank</h4><ul>{items}</ul></section>'

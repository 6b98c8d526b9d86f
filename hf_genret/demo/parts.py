"""Small pieces of the page: codes, docids, words, bars; everything from documents is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from hf_genret.explain.explanation import join

_GOLDEN_ANGLE = 137.508  # neighbouring codes get hues far apart


def text(value: Any, length: int = 10_000) -> str:
    """A value as text on one line, cut and escaped."""
    line = " ".join(str(value or "").split())
    if len(line) > length:
        line = line[: length - 1].rstrip() + "…"
    return html.escape(line)


def hue(prefix: Sequence[int]) -> str:
    """The colour of an id as a CSS custom property: that of its first code."""
    degrees = (prefix[0] * _GOLDEN_ANGLE + 210) % 360 if prefix else 0
    return f"--hue:{degrees:.0f}"


def chip(prefix: Sequence[int], name: str | None = None) -> str:
    """A prefix as a button that opens it in the browser of ids."""
    shown = join(tuple(prefix)) if name is None else name
    return (
        f'<button type="button" class="g-chip" style="{hue(prefix)}" '
        f'data-prefix="{join(tuple(prefix))}" title="Show what lies under '
        f'{join(tuple(prefix))}">{shown}</button>'
    )


def docid(codes: Sequence[int]) -> str:
    """A docid as one chip a code, each opening the prefix up to there."""
    chips = [chip(codes[: level + 1], str(code)) for level, code in enumerate(codes)]
    return f'<span class="g-docid">{"".join(chips)}</span>'


def words(found: Sequence[str]) -> str:
    """Typical words of a prefix."""
    return f'<span class="g-words">{", ".join(text(word, 30) for word in found)}</span>'


def bar(share: float) -> str:
    """A share of 1 as a bar."""
    return (
        f'<span class="g-bar"><span style="width:{100 * min(max(share, 0), 1):.1f}%"></span></span>'
    )


def percent(share: float) -> str:
    """A probability as people read it."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %" if value >= 0.05 else "< 0.1 %"


def documents(count: int, noun: str = "document") -> str:
    """`3 documents`."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def notice(sentence: str, *, wrong: bool = False) -> str:
    """A sentence above the results."""
    kind = "g-wrong" if wrong else "g-said"
    role = "alert" if wrong else "status"
    shown = html.escape(sentence[:1].upper() + sentence[1:])
    return f'<p class="{kind}" role="{role}">{shown}</p>' if sentence else ""

"""Words of any script: what stands between spaces, and pairs of letters where there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

import regex

_LETTERS = r"\p{L}\p{M}"
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no spaces between words."""
_RUN = rf"[{_UNSPACED}][{_UNSPACED}\p{{M}}]*"
_WORD = regex.compile(rf"(?V1)({_RUN})|[[{_LETTERS}\p{{N}}_]--[{_UNSPACED}]]{{2,}}")
_LETTERS_ALONE = regex.compile(rf"(?V1)({_RUN})|[[{_LETTERS}]--[{_UNSPACED}]]{{2,}}")
_UNIT = regex.compile(rf"(?V1)(?:[{_UNSPACED}]\p{{M}}*){{1,2}}|[\S--[{_UNSPACED}]]+")

# The commonest words that only one side has: what English is written with, and what others are.
_ENGLISH = ("the", "and", "with", "this", "that", "are", "their", "of")
_OTHERS = (
    *("de", "la", "le", "les", "des", "el", "los", "las", "del", "que", "et", "un", "els", "para"),
    *("il", "di", "che", "da", "em", "não", "și", "din", "der", "die", "das", "und", "ist", "het"),
    *("een", "van", "og", "och", "att", "som", "på", "det", "się", "nie", "jest", "na", "je", "že"),
    *("ve", "bir", "yang", "dan", "untuk", "và", "của", "là", "ja", "että", "az", "és", "egy"),
    *("ya", "wa", "kwa", "ir"),
)
_JUDGED = 2000  # texts whose words are counted


def words(text: str, *, letters_alone: bool = False) -> Iterator[str]:
    """The words of a text, in lower case.

    A word is a run of two or more letters with their marks, digits and underscores. Chinese,
    Japanese, Thai, Lao, Khmer and Burmese have no spaces between words: there every pair of
    neighbouring letters is one, and a letter that stands alone.

    Args:
        text: Any text.
        letters_alone: Whether digits and underscores end a word instead of belonging to it.
    """
    for run, word in _runs(text, _LETTERS_ALONE if letters_alone else _WORD):
        yield from _pairs(run) if run else [word]


def search_words(text: str) -> Iterator[str]:
    """`words`, and beside each pair of letters the letters themselves, so that one can be found."""
    for run, word in _runs(text, _WORD):
        if not run:
            yield word
            continue
        letters = regex.findall(r"\X", run)
        yield from letters
        if len(letters) > 1:
            yield from _pairs(run)


def unit_spans(text: str) -> list[tuple[int, int]]:
    """Where the pieces by which the length of an excerpt is counted begin and end.

    What stands between spaces is one; where a script has none, two letters are.
    """
    return [match.span() for match in _UNIT.finditer(text)]


def first_units(text: str, count: int) -> str:
    """The text up to the end of its `count`-th unit, on one line."""
    spans = unit_spans(text)[:count]
    return " ".join(text[: spans[-1][1]].split()) if spans else ""


def is_english(texts: Iterable[str]) -> bool:
    """Whether what is written in Latin letters reads as English.

    The commonest words of English are counted against those of other languages. Where there are
    none of either (names, numbers, other scripts) it counts as English.

    Args:
        texts: A corpus; the first 2,000 texts are looked at.
    """
    count = Counter(word for text in islice(texts, _JUDGED) for _, word in _runs(text, _WORD))
    return sum(count[word] for word in _ENGLISH) >= sum(count[word] for word in _OTHERS)


def _runs(text: str, pattern: regex.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Pairs of a run without spaces and a word, one of them empty."""
    for match in pattern.finditer(text.lower()):
        run = match.group(1) or ""
        yield run, "" if run else match.group()


def _pairs(run: str) -> list[str]:
    letters = regex.findall(r"\X", run)
    if len(letters) == 1:
        return letters
    return [first + second for first, second in pairwise(letters)]

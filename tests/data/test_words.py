"""Words of any script, and what reads as English."""

from __future__ import annotations

import pytest

from hf_genret.data.words import first_units, is_english, search_words, unit_spans, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Join two PATHS, x2 a_b!", ["join", "two", "paths", "x2", "a_b"]),
        ("图书馆", ["图书", "书馆"]),
        ("用Python编程", ["用", "python", "编程"]),
        ("データ", ["デー", "ータ"]),
        ("हिन्दी में किताब", ["हिन्दी", "में", "किताब"]),  # vowel signs belong to their letters
        ("대통령이 말했다", ["대통령이", "말했다"]),
        ("น้ำดี", ["น้ำดี"]),  # two letters, with the marks above them
        ("", []),
    ],
)
def test_words(text, expected):
    """Spaces part words; where a script has none, pairs of letters are taken."""
    assert list(words(text)) == expected


def test_words_of_letters_alone():
    """Digits and underscores end a word."""
    assert list(words("os_path x2 2024年", letters_alone=True)) == ["os", "path", "年"]


def test_single_letters_can_be_searched():
    """Each letter of a script without spaces beside its pairs, and once where it stands alone."""
    assert list(search_words("图书馆 a cat")) == ["图", "书", "馆", "图书", "书馆", "cat"]
    assert list(search_words("茶")) == ["茶"]


def test_excerpts_are_measured_in_words_or_pairs_of_letters():
    """A Chinese sentence is not one word, and is cut between letters."""
    assert len(unit_spans("one, two three")) == 3 and len(unit_spans("图书馆里没有书")) == 4
    assert first_units("one,  two three", 2) == "one, two"
    assert first_units("图书馆里没有书", 2) == "图书馆里" and first_units("", 2) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat sat on the mat, and this is its name.", True),
        ("def read(path): return [line for line in open(path)]", True),
        ("Nivea 200 ml", True),
        ("图书馆里没有书", True),  # nothing of it is touched by English words
        ("Die Katze sitzt auf der Matte und das ist gut. Was will er in der Stadt?", False),
        ("Le chat est dans la maison, et les enfants jouent.", False),
        ("De kat zit op de mat van het huis, of in de tuin.", False),
        ("O gato está sentado no tapete e os médicos da cidade não vieram.", False),
        ("Kot siedzi na macie i nie chce się ruszyć.", False),
        ("Kedi ve bir bahçe.", False),
    ],
)
def test_what_reads_as_english(text, expected):
    """By its commonest words; where there are none nothing speaks against it."""
    assert is_english([text]) is expected

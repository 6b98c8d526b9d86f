from __future__ import annotations

import numpy as np
import pytest

from hf_genret.indexing import text_ids
from hf_genret.indexing.text_ids import END, atomic_codes, title_codes

WORDS = {word: 100 - i for i, word in enumerate(["red", "green", "blue", "fox", "dog", "the"])}


def tokenize(texts: list[str]) -> list[list[int]]:
    return [[WORDS[word] for word in text.split()] for text in texts]


def test_titles_come_back_from_their_codes() -> None:
    """One token, one code on every level: codes turn back into the words."""
    titles = ["the red fox", "the dog", "blue", "", "green fox"]
    codes, sizes = title_codes(titles, tokenize, levels=3)
    assert codes.dtype == np.int32 and codes.shape == (5, 3) and sizes == [7, 7, 7]
    word_of: dict[int, str] = {}
    for title, row in zip(titles, codes, strict=True):
        for word, code in zip(title.split(), row.tolist(), strict=False):
            assert word_of.setdefault(code, word) == word
    assert sorted(word_of) == [1, 2, 3, 4, 5, 6]
    assert [" ".join(word_of[c] for c in row if c != END) for row in codes.tolist()] == titles


def test_short_titles_end_with_the_reserved_code() -> None:
    """Padding is code 0, an empty title is nothing else, no token has it."""
    codes, _ = title_codes(["the dog", "", "the red fox"], tokenize, levels=3)
    assert (codes == END).tolist() == [[False, False, True], [True] * 3, [False] * 3]


def test_tokens_are_numbered_by_frequency() -> None:
    """The most frequent kept token is 1; equals go by the tokenizer's own number."""
    codes, sizes = title_codes(["dog fox fox", "dog the fox", "dog fox red"], tokenize, levels=2)
    # dog 3 times, fox 2 (the third place is cut), the once
    assert codes.tolist() == [[1, 2], [1, 3], [1, 2]] and sizes == [4, 4]
    codes, _ = title_codes(["red green"], tokenize, levels=2)
    assert codes.tolist() == [[2, 1]]  # green's number is the lower one


def test_titles_that_begin_alike_share_an_id() -> None:
    """Long titles are cut; a bucket of two is allowed."""
    codes, _ = title_codes(["the red fox", "the red dog"], tokenize, levels=2)
    assert np.array_equal(codes[0], codes[1])


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer gets a batch at a time, the numbering is one."""
    titles = ["the red fox", "the dog", "blue", "green fox"]
    whole, _ = title_codes(titles, tokenize, levels=2)
    monkeypatch.setattr(text_ids, "_BATCH", 3)
    assert np.array_equal(title_codes(titles, tokenize, levels=2)[0], whole)


def test_title_faults_are_named() -> None:
    """No level, no title, a tokenizer that loses texts."""
    with pytest.raises(ValueError, match="found 0 levels and 1 titles"):
        title_codes(["the"], tokenize, levels=0)
    with pytest.raises(ValueError, match="found 2 levels and 0 titles"):
        title_codes([], tokenize, levels=2)
    with pytest.raises(ValueError, match="tokens of 2 texts, found 1"):
        title_codes(["the", "dog"], lambda texts: [[1]], levels=2)


def test_only_empty_titles() -> None:
    """No token at all: one code, the end."""
    codes, sizes = title_codes(["", ""], tokenize, levels=2)
    assert codes.tolist() == [[0, 0], [0, 0]] and sizes == [1, 1]


def test_atomic_codes_number_the_documents() -> None:
    """One level, one code a document."""
    codes, sizes = atomic_codes(4)
    assert codes.tolist() == [[0], [1], [2], [3]] and codes.dtype == np.int32 and sizes == [4]
    with pytest.raises(ValueError, match="at least 1 document, found 0"):
        atomic_codes(0)

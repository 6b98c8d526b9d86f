from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from hf_genret.training.bag import BagStart, bag_start, train_tokenizer

TEXTS = [
    "Join two paths. The TextWrapper wraps text, the wrapper's width is 70.",
    "Split a path into head and tail; os.path.join joins two or more path components.",
    "Parse XMLParser events, base64Decode them and wrap the text in a wrapper.",
    "Return the caf\u00e9's paths joined: path, head, tail, and two components more.",
]


def bags(n: int = 60, vocabulary: int = 40, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [(2 + rng.zipf(1.5, 20) % (vocabulary - 2)).tolist() for _ in range(n)]


def weighted(start: BagStart, ids: list[int]) -> np.ndarray:
    """BM25's weights of one text, the formula written out."""
    out = np.zeros(len(start.idf))
    norm = start.k1 * (1 - start.b + start.b * len(ids) / start.average_length)
    for token in set(ids):
        frequency = ids.count(token)
        out[token] = start.idf[token] * frequency * (start.k1 + 1) / (frequency + norm)
    return out


def test_special_tokens_come_first_and_are_never_added() -> None:
    """Padding is 0, unknown 1, and a text is its own pieces only."""
    tokenizer = train_tokenizer(TEXTS)
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]"]) == [0, 1]
    assert tokenizer("two").input_ids == [tokenizer.convert_tokens_to_ids("two")]
    batch = tokenizer(["two", "two paths"], padding=True)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"][0][-1] == 0
    assert tokenizer("\u4e16").input_ids == [1]


@pytest.mark.parametrize(
    ("written", "alike"),
    [
        ("TextWrapper", "text wrapper"),
        ("XMLParser", "xml parser"),
        ("base64Decode", "base64 decode"),
        ("CAF\u00c9", "cafe"),
    ],
)
def test_names_are_read_as_words(written: str, alike: str) -> None:
    """Camel case, capitals and accents make no difference."""
    tokenizer = train_tokenizer(TEXTS)
    assert tokenizer(written).input_ids == tokenizer(alike).input_ids


def test_a_piece_is_the_same_inside_a_word() -> None:
    """No mark of continuation: the end of a compound is the word itself."""
    tokenizer = train_tokenizer(TEXTS * 3)
    wrapper = tokenizer("wrapper").input_ids
    assert tokenizer("textwrapper").input_ids[-len(wrapper) :] == wrapper


def test_same_texts_same_vocabulary_in_every_process() -> None:
    """Nothing depends on the order of a hash table."""
    code = (
        "import json, sys; from hf_genret.training.bag import train_tokenizer;"
        "print(json.dumps(train_tokenizer(json.load(sys.stdin), vocab_size=120).get_vocab()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
    )
    here = train_tokenizer(TEXTS, vocab_size=120).get_vocab()
    assert json.loads(run.stdout) == here
    assert len(here) <= 120


def test_tokenizer_survives_saving(tmp_path: Path) -> None:
    """Saved and loaded it cuts texts the same way."""
    tokenizer = train_tokenizer(TEXTS)
    tokenizer.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert loaded(TEXTS).input_ids == tokenizer(TEXTS).input_ids


def test_idf_is_lucenes() -> None:
    """By hand for three documents; padding and unknown weigh nothing."""
    start = bag_start([[2, 2, 3], [2, 1], [2, 4, 0]], vocab_size=6, dim=2)
    expected = [0, 0, *(math.log(1 + (3 - df + 0.5) / (df + 0.5)) for df in (3, 1, 1, 0))]
    np.testing.assert_allclose(start.idf, expected, rtol=1e-6)
    assert start.average_length == pytest.approx(8 / 3)


def test_a_bags_sum_is_the_projected_document() -> None:
    """Against numpy's full decomposition: the same similarities between documents."""
    ids = bags()
    start = bag_start(ids, vocab_size=40, dim=8)
    matrix = np.stack([weighted(start, one) for one in ids])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    left, strength, _ = np.linalg.svd(matrix, full_matrices=False)
    expected = left[:, :8] * strength[:8]  # [documents, 8]
    found = matrix @ start.embedding
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), strength[:8], rtol=1e-4)


def test_special_tokens_have_no_vector() -> None:
    """Padding and unknown add nothing to a bag."""
    assert not bag_start(bags(), vocab_size=40, dim=8).embedding[:2].any()


def test_more_columns_than_rank_are_faint_but_not_zero() -> None:
    """Three documents and sixteen dimensions: the rest can still learn."""
    start = bag_start([[2, 3], [3, 4], [4, 5]], vocab_size=6, dim=16)
    assert start.embedding.shape == (6, 16) and np.isfinite(start.embedding).all()
    size = np.linalg.norm(start.embedding, axis=0)
    assert (size > 0).all() and size[2:].max() < 0.1 * size[0]


def test_same_seed_same_start() -> None:
    """The iteration starts where the seed says; signs are fixed."""
    first, second = (bag_start(bags(), vocab_size=40, dim=8, seed=3) for _ in range(2))
    assert np.array_equal(first.embedding, second.embedding)
    other = bag_start(bags(), vocab_size=40, dim=8, seed=4)
    np.testing.assert_allclose(other.embedding, first.embedding, atol=1e-4)


def test_unusable_input_is_named() -> None:
    """No room for tokens, or nothing but unknown ones."""
    with pytest.raises(ValueError, match="found 2"):
        train_tokenizer(TEXTS, vocab_size=2)
    with pytest.raises(ValueError, match="none in 2"):
        bag_start([[1, 1], []], vocab_size=5)

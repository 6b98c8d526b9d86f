"""The offline encoder's start: a small vocabulary of subwords and a decomposition of the corpus.

Latent semantic analysis on BM25's term weights. A vocabulary of about ten subwords a dimension is
the better start in every corpus tried: its pieces act as stems, and its vectors keep more of the
words than those of a large vocabulary squeezed into the same width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN = "[PAD]", "[UNK]"
_SPECIAL = 2  # ids of padding and the unknown token come first
# Names such as TextWrapper, XMLParser or b64Decode are words written together.
_CAMEL = r"(?<=[\p{Ll}\p{Nd}])(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll})"


@dataclass(frozen=True)
class BagStart:
    """What a bag-of-subwords encoder starts from; all of it has to reach the encoder.

    Attributes:
        idf: Weight of each token, float32 [V]; 0 for padding and the unknown token.
        embedding: Vector of each token, float32 [V, dim].
        average_length: Mean length of the documents in tokens.
        k1: Saturation of repeated tokens that the start was made with.
        b: Strength of the length normalisation that the start was made with.
    """

    idf: np.ndarray
    embedding: np.ndarray
    average_length: float
    k1: float
    b: float


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int = 3000, seed: int = 0
) -> PreTrainedTokenizerFast:
    """Learn a WordPiece vocabulary: the same texts give the same one.

    Names in camel case are split, then everything is lower-cased and accents are dropped. Pieces
    carry no mark of standing inside a word, so that "wrapper" is one token in "a wrapper" and in
    "textwrapper". No token is added before or after a text; padding is 0, unknown 1.

    Args:
        texts: The corpus.
        vocab_size: Tokens at most, the two special ones included; a small corpus has fewer.
        seed: Taken as every start takes one; a vocabulary draws nothing, so it changes nothing.

    Returns:
        The tokenizer.

    Raises:
        ValueError: When `vocab_size` leaves no room for a token.
    """
    del seed
    if vocab_size <= _SPECIAL:
        raise ValueError(f"Expected a vocabulary of at least 3 tokens, found {vocab_size}.")
    tokenizer = Tokenizer(
        models.WordPiece(
            unk_token=UNKNOWN, continuing_subword_prefix="", max_input_chars_per_word=64
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(_CAMEL), " "), normalizers.BertNormalizer(lowercase=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[PAD, UNKNOWN],
        limit_alphabet=max(1, min(1000, vocab_size // 3)),
        continuing_subword_prefix="",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def bag_start(
    token_ids: Sequence[Sequence[int]],
    *,
    vocab_size: int,
    dim: int = 256,
    k1: float = 2.0,
    b: float = 0.75,
    seed: int = 0,
) -> BagStart:
    """Token weights and vectors under which a bag's sum is its text's latent semantic vector.

    Documents are rows of saturated frequency times idf (BM25's, Lucene's form of the idf), brought
    to length 1. With M = U S V^T cut to `dim` columns, row t of V is the vector of token t: the
    weighted sum over a text's tokens is then the text's projection M V.

    Args:
        token_ids: The documents' tokens, cut as the encoder will see them.
        vocab_size: Rows of the embedding, V.
        dim: Columns of the embedding.
        k1: Saturation of repeated tokens.
        b: Strength of the length normalisation.
        seed: Of the iteration's start and of columns beyond the corpus's rank.

    Returns:
        The start.

    Raises:
        ValueError: When there is no document with a known token.
    """
    counts = _counts(token_ids, vocab_size)
    if counts.nnz == 0:
        raise ValueError(f"Expected documents with known tokens, found none in {len(token_ids)}.")
    average = float(np.mean([len(ids) for ids in token_ids]))
    seen = np.bincount(counts.indices, minlength=vocab_size)  # documents a token stands in
    idf = np.log1p((len(token_ids) - seen + 0.5) / (seen + 0.5)).astype(np.float32)
    idf[:_SPECIAL] = 0.0
    lengths = np.array([len(ids) for ids in token_ids])
    norm = k1 * (1 - b + b * lengths / average)
    frequency = counts.data
    counts.data = frequency * (k1 + 1) / (frequency + np.repeat(norm, np.diff(counts.indptr)))
    weights = counts @ sparse.diags_array(idf.astype(np.float64))
    size = np.sqrt(weights.multiply(weights).sum(axis=1))
    weights = sparse.csr_array(sparse.diags_array(1 / np.maximum(size, 1e-12)) @ weights)
    return BagStart(idf, _token_vectors(weights, dim, seed), average, k1, b)


def _counts(token_ids: Sequence[Sequence[int]], vocab_size: int) -> sparse.csr_array:
    """Documents x vocabulary, how often each token stands in each document; specials left out."""
    rows = np.repeat(np.arange(len(token_ids)), [len(ids) for ids in token_ids])
    tokens = np.fromiter((t for ids in token_ids for t in ids), dtype=np.int64, count=len(rows))
    keep = tokens >= _SPECIAL
    ones = np.ones(int(keep.sum()))
    shape = (len(token_ids), vocab_size)
    counts = sparse.csr_array((ones, (rows[keep], tokens[keep])), shape=shape)
    counts.sum_duplicates()
    return counts


def _token_vectors(weights: sparse.csr_array, dim: int, seed: int) -> np.ndarray:
    """Right singular vectors [V, dim], strongest first; faint noise in columns beyond the rank."""
    rng = np.random.default_rng(seed)
    rank = min(dim, min(weights.shape) - 1)
    start = rng.standard_normal(min(weights.shape))
    # A column that is zero throughout would never get a gradient from an inner product.
    vectors = rng.standard_normal((weights.shape[1], dim)) * (0.01 / np.sqrt(weights.shape[1]))
    if rank > 0:
        _, strength, right = svds(weights, k=rank, v0=start)
        right = right[np.argsort(-strength)].T  # [V, rank]
        largest = right[np.abs(right).argmax(axis=0), np.arange(rank)]
        vectors[:, :rank] = right * np.sign(largest)  # signs are free: fix them
    vectors[:_SPECIAL] = 0.0
    return vectors.astype(np.float32)

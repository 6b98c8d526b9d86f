"""A retriever from a handful of texts in well under a second, without training."""

from __future__ import annotations

import math

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_genret.data.schema import Documents
from hf_genret.encoding import ItemSource, pooled_vectors
from hf_genret.indexing.codes import hierarchical_kmeans, node_centroids
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.modeling.encoders_genret import BagEncoder
from hf_genret.retriever import GenRetriever


def tiny_retriever(
    documents: Documents,
    *,
    codebook_sizes: list[int] | None = None,
    dim: int = 128,
    seed: int = 0,
) -> GenRetriever:
    """A retriever whose words have random vectors and whose ids come from clustering.

    Random vectors keep inner products of bags of words, so it finds what shares words with the
    query: enough to try the package, no substitute for training.

    Args:
        documents: A few texts.
        codebook_sizes: Codes a level; two levels with about two documents an id by default.
        dim: Width of the vectors; more keeps words further apart.
        seed: Of word vectors and clusters.
    """
    sizes = codebook_sizes or [max(2, math.ceil(math.sqrt(len(documents) / 2)))] * 2
    tokenizer = word_tokenizer(documents)
    config = GenRetConfig(
        query_encoder={"type": "bag", "vocab_size": len(tokenizer), "dim": dim},
        vector_dim=dim,
        codebook_sizes=sizes,
        decoder_dim=32,
        search_beams=10,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GenRetModel(config).eval()
    source = ItemSource(model, documents, tokenizer)
    _start_words(model, source, seed)
    vectors = pooled_vectors(model, source)
    codes = hierarchical_kmeans(vectors.numpy(), sizes, seed=seed, cosine=True)
    for level in range(len(sizes)):
        centres = node_centroids(vectors.numpy(), codes, sizes, level, normalize=True)
        model.heads.start(level, torch.from_numpy(centres))
    model.set_index(torch.from_numpy(codes), vectors=vectors)
    return GenRetriever(model, tokenizer, documents)


def word_tokenizer(documents: Documents) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is every word of the documents, in alphabetical order."""
    normalizer = normalizers.BertNormalizer()
    splitter = pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for text in documents.full_texts()
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
        if any(character.isalnum() for character in word)
    }
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=512
    )


def _start_words(model: GenRetModel, source: ItemSource, seed: int) -> None:
    """Random unit vectors for words, weighted by how few documents hold them."""
    assert source.tokens is not None
    encoder = model.encoder.query
    assert isinstance(encoder, BagEncoder)
    table = torch.randn(
        encoder.embedding.weight.shape, generator=torch.Generator().manual_seed(seed)
    )
    table[:2] = 0.0  # padding and unknown words
    counts = np.zeros(len(table))
    for i in range(len(source)):
        tokens = source.tokens.ids[source.tokens.starts[i] : source.tokens.starts[i + 1]]
        counts[np.unique(tokens)] += 1
    idf = np.log(1 + (len(source) - counts + 0.5) / (counts + 0.5))
    with torch.no_grad():
        encoder.embedding.weight.copy_(torch.nn.functional.normalize(table, dim=-1))
        encoder.idf.copy_(torch.from_numpy(idf))

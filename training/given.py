"""Ids that are given: made from vectors, interactions or texts, or read from a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hf_genret.checkpoints import load_documents, load_model, locate
from hf_genret.data import Documents
from hf_genret.errors import CheckpointError, ConfigError
from hf_genret.indexing import (
    hierarchical_kmeans,
    random_codes,
    residual_kmeans,
    running_numbers,
)
from hf_genret.indexing.collaborative import collaborative_vectors
from hf_genret.indexing.forest import forest
from hf_genret.indexing.id_files import read_ids
from hf_genret.indexing.quantizers import product_quantization, rq_vae, vq_vae
from hf_genret.indexing.text_ids import atomic_codes, title_codes
from hf_genret.manifest import read_manifest, weights_digest
from hf_genret.notices import Notices
from hf_genret.same_texts import other_texts
from hf_genret.training.bag import train_tokenizer
from hf_genret.training.batches import interactions
from hf_genret.training.runs import row_codes as first_ids
from hf_genret.training.workshop import Workshop

_TITLE_TOKENS = 6  # codes of an id made of words
_TITLE_VOCABULARY = 2000


def _kmeans(shop: Workshop, vectors: np.ndarray | None = None) -> np.ndarray:
    """Balanced hierarchical k-means; of the ranker's vectors by default."""
    vectors = shop.vectors if vectors is None else vectors
    return hierarchical_kmeans(vectors, shop.bucket_sizes, seed=shop.seed, cosine=shop.cosine)


def _query_aware(shop: Workshop) -> np.ndarray:
    """k-means of documents as their queries see them (bottleneck-minimal indexing, ICML 2024)."""
    return _kmeans(shop, shop.query_aware_vectors)


def _collaborative(shop: Workshop) -> np.ndarray:
    """k-means of what queries or users have in common beside the documents' own vectors."""
    relevant = interactions(shop.data.train.queries)
    dim = min(64, shop.vectors.shape[1])
    return _kmeans(shop, collaborative_vectors(shop.vectors, relevant, dim=dim, seed=shop.seed))


def _forest(shop: Workshop, argument: str) -> np.ndarray:
    """One path in every tree of a forest, [N, T, L]; a tree sees half of the features."""
    try:
        ratio = float(argument or 0.5)
        trees, *sizes = shop.sizes
        return forest(
            shop.vectors, trees, sizes, seed=shop.seed, feature_ratio=ratio, cosine=shop.cosine
        )
    except ValueError as error:
        raise ConfigError(f"ids=forest:{argument}: {error}") from error


def _several(shop: Workshop, make: Callable[..., np.ndarray]) -> np.ndarray:
    """J ids made with seeds of their own, [N, J, L]."""
    count, documents = shop.model.config.ids_per_document, len(shop.state.codes)
    seeds = np.random.default_rng(shop.seed).integers(2**31, size=count).tolist()
    return np.stack([make(documents, shop.sizes, seed=seed) for seed in seeds], axis=1)


def _clusters(shop: Workshop, documents: int, sizes: list[int], *, seed: int) -> np.ndarray:
    del documents
    return hierarchical_kmeans(shop.vectors, sizes, seed=seed, cosine=shop.cosine)


GIVEN: dict[str, Callable[[Workshop], np.ndarray]] = {
    "kmeans": _kmeans,
    "em": _kmeans,  # a stage of the recipe refines them
    "random": lambda shop: random_codes(len(shop.state.codes), shop.bucket_sizes, seed=shop.seed),
    "rq": lambda shop: residual_kmeans(shop.vectors, shop.bucket_sizes, seed=shop.seed),
    "pq": lambda shop: product_quantization(shop.vectors, shop.bucket_sizes, seed=shop.seed),
    "rqvae": lambda shop: rq_vae(shop.vectors, shop.bucket_sizes, seed=shop.seed),
    "vqvae": lambda shop: vq_vae(shop.vectors, shop.bucket_sizes, seed=shop.seed),
    "query_kmeans": _query_aware,
    "collaborative": _collaborative,
    "forest": lambda shop: _forest(shop, ""),
    "random_paths": lambda shop: _several(shop, random_codes),
    "kmeans_paths": lambda shop: _several(shop, partial(_clusters, shop)),
}
"""Ids made of what the trained encoder says of the documents, with the recipe's sizes."""

SEVERAL = ("forest", "random_paths", "kmeans_paths")
"""Those that give a document `ids_per_document` ids; `forest:0.7` says which share of the features
each tree sees."""

Known = tuple[np.ndarray, list[int]]


def _title(documents: Documents, argument: str) -> Known:
    """The first subwords of the title (of the text where there is none)."""
    pairs = zip(documents.titles, documents.texts, strict=True)
    titles = [title or text[:200] for title, text in pairs]
    tokenizer = train_tokenizer(titles, vocab_size=_TITLE_VOCABULARY, seed=0)

    def tokenize(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    return title_codes(titles, tokenize, levels=int(argument or _TITLE_TOKENS))


def _none(documents: Documents, argument: str) -> Known:
    """One leaf that holds every document."""
    del argument
    return np.zeros((len(documents), 1), dtype=np.int32), [1]


def _checkpoint(documents: Documents, argument: str) -> Known:
    """The ids that a checkpoint gave to the same documents, whatever method it was trained with.

    Raises:
        CheckpointError: When there is no checkpoint, or documents have no id in it.
    """
    folder = locate(argument)
    model = load_model(folder, None, "cpu")
    store = load_documents(folder, model)
    place = {name: row for row, name in enumerate(store.ids)}
    missing = [name for name in documents.ids if name not in place]
    if missing:
        raise CheckpointError(f"{argument} has no id for {len(missing)} documents ({missing[0]}).")
    rows = [place[name] for name in documents.ids]
    if other := other_texts(store, documents, rows):
        notices = Notices()
        notices.add(
            "documents have another text than in the checkpoint whose ids they get",
            path=shown_place(argument),
            example=other[0],
            count=len(other),
        )
        notices.warn()
    codes = first_ids(model)[rows]
    return codes.astype(np.int32), list(model.config.codebook_sizes)


FROM_DATA: dict[str, Callable[[Documents, str], Known]] = {
    "none": _none,
    "atomic": lambda documents, argument: atomic_codes(len(documents)),
    "title": _title,
    "file": lambda documents, argument: read_ids(Path(argument), documents.ids),
    "checkpoint": _checkpoint,
}
"""Ids that are known before there is a model, and their sizes; `name:argument`, as
`file:ids.tsv`."""

PLACES = ("file", "checkpoint")
"""Those whose argument is a place."""


def ids_from_data(name: str, documents: Documents, *, position_code: bool = False) -> Known | None:
    """Codes [N, L] and sizes that are known before there is a model; None for other ids.

    Args:
        name: What the recipe says, `name` or `name:argument`.
        documents: The corpus.
        position_code: Whether a last code tells documents of one bucket apart; it has as many
            values as the largest bucket has documents, and is left out where that is one.

    Raises:
        DataError: When a file of ids has a fault.
    """
    kind, _, argument = name.partition(":")
    if kind not in FROM_DATA:
        return None
    codes, sizes = FROM_DATA[kind](documents, argument)
    if not position_code:
        return codes, sizes
    numbers = positions(codes)
    largest = int(numbers.max()) + 1
    if largest == 1:
        return codes, sizes
    return np.column_stack([codes, numbers]).astype(np.int32), [*sizes, largest]


def positions(codes: np.ndarray) -> np.ndarray:
    """The number of every document among those with the same id [N, L], from 0: int64 [N].

    DSI's position in the leaf and TIGER's code for collisions: as one more code it makes ids
    unique.
    """
    buckets = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    return running_numbers(buckets)


def give_codes(shop: Workshop, name: str) -> Tensor:
    """The ids of a name, int64 [N, L], with the position code where the recipe has one.

    [N, J, L] where documents own several.

    Raises:
        ConfigError: When the name is unknown, or a bucket has more documents than positions.
    """
    kind, _, argument = name.partition(":")
    if kind in SEVERAL and shop.data.position_code:
        raise ConfigError(f"ids: '{name}' are several a document; they take no position_code.")
    if kind == "forest" and argument:
        return torch.from_numpy(_forest(shop, argument).astype(np.int64))
    if kind in FROM_DATA:
        if shop.data.given is None:
            raise ConfigError(f"ids: '{name}' has to be the recipe's own (ids={name}).")
        return shop.data.given
    if name not in GIVEN:
        raise ConfigError(f"ids: '{name}' is unknown; known: {', '.join([*GIVEN, *FROM_DATA])}.")
    codes = GIVEN[name](shop).astype(np.int64)
    if shop.data.position_code:
        numbers, limit = positions(codes), shop.sizes[-1]
        largest = int(numbers.max()) + 1
        if largest > limit:
            raise ConfigError(
                f"A bucket of '{name}' ids holds {largest} documents and position_code is {limit}: "
                f"set position_code={largest} or more, or more and larger levels."
            )
        codes = np.column_stack([codes, numbers])
    return torch.from_numpy(codes)


def shown_setting(setting: str) -> str:
    """An override as reports show it: without the place of an encoder, of ids or a checkpoint."""
    key, _, value = setting.partition("=")
    if key.strip() == "encoder" and value not in ("bag", "items"):
        return f"{key}=ENCODER"
    kind, _, place = value.partition(":")
    if key.strip() == "ids" and kind in PLACES:
        return f"{key}={kind}:{Path(place).name}"
    if key.strip() == "index_from":
        return f"{key}={shown_place(value)}"
    return setting


def shown_place(checkpoint: str) -> str:
    """A checkpoint as reports show it: a folder by its name, one on the Hub as it is."""
    folder = Path(checkpoint).expanduser()
    return folder.resolve().name if folder.is_dir() else checkpoint


def recorded_place(checkpoint: str) -> str:
    """The same with the digest of a folder's weights, so that another one is told from it."""
    folder = Path(checkpoint).expanduser()
    known = folder.is_dir() and read_manifest(folder) is not None
    return (
        f"{shown_place(checkpoint)} {weights_digest(folder)}" if known else shown_place(checkpoint)
    )

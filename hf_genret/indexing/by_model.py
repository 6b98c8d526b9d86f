"""Ids from the model itself: its indexer says which code suits an item, capacity which it gets."""

from __future__ import annotations

import copy

import numpy as np
import torch

from hf_genret.encoding import ItemSource, backbone_vectors, encode
from hf_genret.indexing.capacity import Method, assign_within
from hf_genret.indexing.paths import (
    PathScores,
    choose_paths,
    flat_paths,
    path_codes,
    path_numbers,
)
from hf_genret.indexing.scratch import ScratchMatrix
from hf_genret.modeling import EncoderOutput, GenRetModel


def level_log_probs(
    model: GenRetModel,
    source: ItemSource,
    codes_so_far: np.ndarray,
    level: int,
    batch_size: int = 256,
) -> np.ndarray:
    """`level_scores` as one array, for as many items as memory holds.

    Args:
        model: As in `level_scores`.
        source: As in `level_scores`.
        codes_so_far: As in `level_scores`.
        level: As in `level_scores`.
        batch_size: As in `level_scores`.

    Returns:
        float32 [N, K_level], log-probabilities.

    Raises:
        ValueError: As `level_scores`.
    """
    with level_scores(model, source, codes_so_far, level, batch_size) as scores:
        return scores.take(np.arange(len(source)))


def level_scores(
    model: GenRetModel,
    source: ItemSource,
    codes_so_far: np.ndarray,
    level: int,
    batch_size: int = 256,
) -> ScratchMatrix:
    """What the model's indexer thinks of every code of one level for each item: P_I^l (URI, Eq. 2).

    The indexer is the decoder itself or stands beside it (`config.indexer`).

    Args:
        model: Encoder, decoder and heads.
        source: The N items.
        codes_so_far: int [N, l or more], the codes of the levels before, l = `level`.
        level: From 0.
        batch_size: Items encoded at once.

    Returns:
        [N, K_level], log-probabilities; to be closed by the caller (`with level_scores(...) as`).

    Raises:
        ValueError: When `codes_so_far` has another number of items or too few levels.
    """
    if codes_so_far.shape[0] != len(source) or codes_so_far.shape[1] < level:
        raise ValueError(
            f"Expected {level} codes for each of {len(source)} items, "
            f"found shape {codes_so_far.shape}."
        )
    prefix = torch.from_numpy(np.ascontiguousarray(codes_so_far[:, :level], dtype=np.int64))
    out = ScratchMatrix(len(source), model.config.codebook_sizes[level])
    name = f"Reading items, level {level + 1}"
    try:
        for numbers, encoded in encode(model, source, batch_size=batch_size, description=name):
            codes = prefix[torch.from_numpy(numbers)].to(model.device)  # [B, l]
            with torch.no_grad():
                logits = model.index_logits(encoded, codes)  # [B, K]
            out.put(numbers, logits.float().log_softmax(-1).cpu().numpy())
    except BaseException:
        out.close()
        raise
    return out


def assign_by_model(
    model: GenRetModel,
    source: ItemSource,
    *,
    method: Method = "exact",
    seed: int = 0,
    batch_size: int = 256,
    tree: int | None = None,
) -> tuple[np.ndarray, list[float]]:
    """Give every item an id, level by level, each child of a node getting its equal share.

    Probabilities of more items than memory holds stand in a scratch file, a level at a time.

    Args:
        model: Encoder, decoder and heads.
        source: The N items.
        method: As in `hf_genret.indexing.capacity.assign`; `argmax` knows no capacity.
        seed: Matters only among equals.
        batch_size: Items encoded at once.
        tree: The first code of all ids, where it is the number of a tree.

    Returns:
        Codes int32 [N, L], and for each level the share of items that did not get their most
        probable code.
    """
    source = with_vectors(model, source, batch_size)
    sizes = model.config.codebook_sizes
    codes = np.zeros((len(source), len(sizes)), dtype=np.int32)
    displaced = []
    parents = np.zeros(len(source), dtype=np.int64)  # the root alone
    if tree is not None:
        codes[:, 0] = tree
    for level, size in list(enumerate(sizes))[tree is not None :]:
        with level_scores(model, source, codes, level, batch_size) as scores:
            found = assign_within(scores, parents, method=method, seed=seed)
        codes[:, level] = found.codes
        displaced.append(found.displaced)
        # Nodes are numbered anew at each level, so that no depth runs out of 64 bits.
        parents = np.unique(parents * size + found.codes, return_inverse=True)[1]
    return codes, displaced


def ids_by_model(
    model: GenRetModel,
    source: ItemSource,
    *,
    method: Method = "exact",
    batch_size: int = 256,
) -> tuple[torch.Tensor, torch.Tensor]:
    """All ids of every item as the trained model gives them.

    One each by `assign_by_model`; in a forest one a tree; of a model whose documents own J ids the
    J that `choose_paths` takes from the item's own `CANDIDATES` most probable ones.

    Args:
        model: Encoder, decoder and heads.
        source: The N items.
        method: As in `assign_by_model`; J ids know no capacity but the price of full paths.
        batch_size: Items encoded at once.

    Returns:
        Codes int64 [P, L] and the row of each, [P], as `GenRetModel.set_index` takes them.
    """
    config, source = model.config, with_vectors(model, source, batch_size)
    if config.forest:
        trees = range(config.codebook_sizes[0])
        found = [
            assign_by_model(model, source, method=method, batch_size=batch_size, tree=tree)[0]
            for tree in trees
        ]
        codes = np.stack(found, axis=1)
    elif config.ids_per_document > 1:
        codes = _own_paths(model, source, batch_size)
    else:
        codes = assign_by_model(model, source, method=method, batch_size=batch_size)[0][:, None]
    return flat_paths(torch.from_numpy(codes.astype(np.int64)))


CANDIDATES = 20
"""Paths from which a new item of several ids takes its own."""
PENALTY = 0.02
"""Weight of full paths when new items take several ids, the recipe's own."""


def _own_paths(model: GenRetModel, source: ItemSource, batch_size: int) -> np.ndarray:
    """J paths of every item by what the model says of the item itself, int64 [N, J, L]."""
    sizes, count = model.config.codebook_sizes, model.config.ids_per_document
    scores = PathScores(len(source), CANDIDATES)
    start = np.zeros((len(source), count), dtype=np.int64)
    for numbers, encoded in encode(model, source, batch_size=batch_size, description="Paths"):
        codes, log_p = likely_paths(model, encoded, CANDIDATES)
        paths = path_numbers(codes, sizes)
        scores.add(numbers, paths, np.exp(log_p))
        start[numbers] = np.resize(paths.T, (count, len(numbers))).T
    ones = np.ones(len(source))
    return path_codes(choose_paths(scores.candidates(), ones, start, penalty=PENALTY), sizes)


@torch.no_grad()
def likely_paths(
    model: GenRetModel, encoded: EncoderOutput, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable paths of queries or items among all that codes can spell, by a beam.

    Args:
        model: Decoder and heads; an index is not needed.
        encoded: B of them.
        width: Beams; fewer paths come where fewer can be spelled.

    Returns:
        Codes int64 [B, M, L] and their log-probabilities float64 [B, M], best first.
    """
    batch, device = len(encoded.pooler_output), encoded.pooler_output.device
    codes = torch.zeros(batch, 1, 0, dtype=torch.long, device=device)
    total = torch.zeros(batch, 1, device=device)
    for size in model.config.codebook_sizes:
        log_p = model.level_logits(encoded, codes.flatten(0, 1)).float().log_softmax(-1)
        every = (total.flatten()[:, None] + log_p).view(batch, -1)
        total, place = every.topk(min(width, every.shape[1]), dim=1)
        before = codes.gather(1, (place // size)[..., None].expand(-1, -1, codes.shape[2]))
        codes = torch.cat([before, (place % size)[..., None]], dim=2)
    return codes.cpu().numpy(), total.double().cpu().numpy()


def with_vectors(model: GenRetModel, source: ItemSource, batch_size: int = 256) -> ItemSource:
    """The same items with their text read once and for all, where one vector says it all.

    Args:
        model: Its text encoder is run over every item, unless vectors are there already or the
            decoder attends to tokens.
        source: The items; left as it is.
        batch_size: Items encoded at once.
    """
    single = getattr(model.encoder.item_side, "memory", "pooled") == "pooled"
    if source.tokens is None or source.vectors is not None or not single:
        return source
    read = copy.copy(source)
    read.vectors = backbone_vectors(model, source, batch_size=batch_size)
    return read

"""Ids from the model: assignment under capacity, and re-assignment by what queries say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hf_genret.encoding import to_device
from hf_genret.errors import ConfigError
from hf_genret.evaluation import ape
from hf_genret.evaluation.docids import balance
from hf_genret.evaluation.health import check_displaced
from hf_genret.indexing import assign_within, node_numbers
from hf_genret.indexing.by_model import level_scores
from hf_genret.indexing.capacity import Method
from hf_genret.indexing.scratch import BUDGET, ScratchMatrix, blocks
from hf_genret.modeling import EncoderOutput
from hf_genret.training.batches import interactions
from hf_genret.training.workshop import Facts, Workshop


def assign(shop: Workshop, setting: Method) -> Facts:
    """Give every item its codes of the stage's levels by the model's indexer, under capacity."""
    shop.one_id_each()
    facts: list[Facts] = [_assign_level(shop, level, setting) for level in shop.levels]
    if shop.levels[-1] + 1 == len(shop.sizes):
        shop.index()
    return _by_level(facts, shop.levels)


def _by_level(facts: list[Facts], levels: list[int]) -> Facts:
    """What levels report, each figure of several levels under its own name."""
    if len(levels) == 1:
        return facts[0]
    return {
        f"{name}_{level + 1}": value
        for level, part in zip(levels, facts, strict=True)
        for name, value in part.items()
        if name != "level"
    }


def _assign_level(shop: Workshop, level: int, setting: Method) -> Facts:
    above = shop.state.codes[:, :level].numpy()
    with level_scores(shop.model, shop.data.items, above, level) as scores:
        found = assign_within(scores, shop.parents(level), method=setting, seed=shop.seed)
    shop.state.codes[:, level] = torch.from_numpy(found.codes.astype(np.int64))
    facts = {"level": level + 1, "displaced": float(found.displaced), **_use(shop, level)}
    if (shop.state.start_codes[:, level] >= 0).all():
        moved = shop.state.codes[:, level] != shop.state.start_codes[:, level]
        facts["changed_from_start"] = float(moved.float().mean())
    shop.findings += check_displaced(found.displaced, level + 1)
    return facts


def reassign(shop: Workshop, setting: Any) -> Facts:
    """The M-step of URI's section 4.1: the assignment of greatest summed log-likelihood.

    For every item log P(code | query, parent) is summed over its training queries, its own
    item-side distribution is added once, and each parent's items are assigned exactly (or
    greedily, as the paper does) under capacity. `setting` is a method or a dictionary with
    `method` and `levels` (from 1, or `all`; all but the first by default).
    """
    options = setting if isinstance(setting, dict) else {"method": setting}
    depth = len(shop.sizes)
    levels = options.get("levels") or list(range(min(2, depth), depth + 1))
    levels = list(range(1, depth + 1)) if levels == "all" else levels
    if levels != list(range(levels[0], depth + 1)):
        raise ConfigError(
            f"reassign: levels is {levels}; ids below a level that moves move with it, so all "
            f"levels down to {depth} were expected."
        )
    shop.one_id_each()
    before = shop.state.codes.clone()
    facts: Facts = {}
    for level in (number - 1 for number in levels):
        above = shop.state.codes[:, :level].numpy()
        with level_scores(shop.model, shop.data.items, above, level) as scores:
            _add_queries(shop, level, scores)
            found = assign_within(
                scores, shop.parents(level), method=options["method"], seed=shop.seed
            )
        shop.state.codes[:, level] = torch.from_numpy(found.codes.astype(np.int64))
        facts[f"displaced_{level + 1}"] = float(found.displaced)
        shop.findings += check_displaced(found.displaced, level + 1)
    moved = (shop.state.codes != before).any(1)
    facts |= {"leaves_changed": float(moved.float().mean()), **_use(shop, len(shop.sizes) - 1)}
    shop.index()
    return facts


def _add_queries(shop: Workshop, level: int, scores: ScratchMatrix) -> None:
    """Add to what items say of themselves what their queries say, a block of items at a time."""
    for rows in blocks(*scores.shape, BUDGET):
        total = query_log_likelihood(shop, level, rows=range(rows[0], rows[-1] + 1))
        total += scores.take(rows)
        scores.put(rows, total)


def query_log_likelihood(
    shop: Workshop, level: int, batch_size: int = 512, *, rows: range | None = None
) -> np.ndarray:
    """For every item the sum of log P(code | query, its prefix) over its training queries.

    Args:
        shop: The model, the items and their training pairs.
        level: From 0.
        batch_size: Pairs read at once.
        rows: Items that follow each other, as many as memory holds; all by default.

    Returns:
        float64 [items, K]; zeros for an item without training queries.
    """
    rows = range(len(shop.state.codes)) if rows is None else rows
    total = np.zeros((len(rows), shop.sizes[level]))
    for asked, encoded in encoded_pairs(shop, batch_size, rows=rows):
        prefix = shop.state.codes[torch.from_numpy(asked), :level].to(shop.model.device)
        with torch.no_grad():
            logits = shop.model.level_logits(encoded, prefix)
        log_p = logits.double().log_softmax(-1).cpu().numpy()
        np.add.at(total, asked - rows.start, log_p)
    return total


def encoded_pairs(
    shop: Workshop, batch_size: int = 512, *, rows: range | None = None
) -> Iterator[tuple[np.ndarray, EncoderOutput]]:
    """The training pairs without gradients, in batches of similar length.

    Args:
        shop: The model, the items and their training pairs.
        batch_size: Pairs read at once.
        rows: Items whose pairs are wanted; all by default.

    Yields:
        The item row of each pair of a batch and what the encoder emitted for their queries.
    """
    data, model = shop.data, shop.model
    rows = range(len(shop.state.codes)) if rows is None else rows
    mine = np.flatnonzero((data.pair_row >= rows.start) & (data.pair_row < rows.stop))
    lengths = data.train.lengths()[data.pair_query[mine]]
    order = mine[np.argsort(-lengths, kind="stable")]
    model.eval()
    starts = range(0, len(order), batch_size)
    for first in tqdm(starts, desc="Reading pairs", disable=len(starts) < 20, leave=False):
        pairs = order[first : first + batch_size]
        inputs = to_device(data.train.batch(data.pair_query[pairs]), model.device)
        with torch.no_grad():
            encoded = model.encode_query(**inputs)
        yield data.pair_row[pairs], encoded


def _use(shop: Workshop, level: int) -> Facts:
    """Share of the level's codes in use, the relative entropy of their use, APE of the nodes."""
    counts = torch.bincount(shop.state.codes[:, level], minlength=shop.sizes[level]).double()
    share: Tensor = counts / counts.sum()
    entropy = -(share * share.clamp(min=1e-12).log()).sum() / np.log(max(shop.sizes[level], 2))
    nodes = node_numbers(shop.state.codes.numpy(), shop.sizes, level)
    return {
        "codes_used": float((counts > 0).double().mean()),
        "code_entropy": float(entropy),
        "diversity": balance(counts.numpy(), shop.sizes[level]),
        "ape": ape(nodes, interactions(shop.data.train.queries)),
    }

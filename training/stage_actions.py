"""What happens to ids between steps: clusters that heads start at, assignment, re-assignment."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hf_genret.encoding import pooled_vectors, to_device
from hf_genret.errors import ConfigError
from hf_genret.evaluation import ape
from hf_genret.indexing import (
    assign_within,
    cluster_level,
    hierarchical_kmeans,
    node_centroids,
    node_numbers,
    random_codes,
    residual_kmeans,
)
from hf_genret.indexing.by_model import level_log_probs
from hf_genret.indexing.capacity import Method
from hf_genret.modeling import GenRetModel
from hf_genret.modeling.heads_genret import ClusterHeads
from hf_genret.training.batches import TrainingData, interactions
from hf_genret.training.curriculum import RunState, Stage

logger = logging.getLogger(__name__)
_MANY_DISPLACED = 0.3

Facts = dict[str, Any]
Action = Callable[["Workshop", Any], Facts]


class Workshop:
    """What an action works on.

    Args:
        model: The model, not wrapped.
        data: Items and training pairs.
        state: Ids so far; actions change them in place.
        stage: The stage before or after which the action stands.
        seed: Of the run.
    """

    def __init__(
        self, model: GenRetModel, data: TrainingData, state: RunState, stage: Stage, seed: int
    ) -> None:
        self.model, self.data, self.state, self.stage, self.seed = model, data, state, stage, seed
        self.sizes = list(model.config.codebook_sizes)
        self._vectors: np.ndarray | None = None

    @property
    def vectors(self) -> np.ndarray:
        """The ranker's vectors of all items, float32 [N, D]."""
        if self._vectors is None:
            self._vectors = pooled_vectors(self.model, self.data.items).numpy()
        return self._vectors

    @property
    def cosine(self) -> bool:
        """Whether clusters are of directions."""
        return bool(self.model.config.head_similarity == "cosine")

    def parents(self, level: int) -> np.ndarray:
        """Node of each item above `level` (from 0), int64 [N]."""
        codes = self.state.codes.numpy()
        if level == 0:
            return np.zeros(len(codes), dtype=np.int64)
        return node_numbers(codes, self.sizes, level - 1)


def start_clusters(shop: Workshop, setting: Any) -> Facts:
    """Start a level's heads at balanced clusters of the items below each parent."""
    del setting
    level = shop.stage.level - 1
    codes = cluster_level(
        shop.vectors,
        shop.parents(level),
        shop.sizes[level],
        seed=shop.seed + level,
        cosine=shop.cosine,
    )
    shop.state.start_codes[:, level] = torch.from_numpy(codes.astype(np.int64))
    together = shop.state.codes.numpy().copy()
    together[:, level] = codes
    start_heads(shop, together, [level])
    return {"clusters": level + 1}


def start_heads(shop: Workshop, codes: np.ndarray, levels: list[int]) -> None:
    """Put cluster heads at the centres of the present nodes; plain heads have no such place."""
    heads = shop.model.heads
    if not isinstance(heads, ClusterHeads):
        return
    for level in levels:
        if heads.is_flat(level):
            logger.warning("Level %d has too many nodes for centres of its own.", level + 1)
            continue
        centres = node_centroids(shop.vectors, codes, shop.sizes, level, normalize=shop.cosine)
        heads.start(level, torch.from_numpy(centres))


def give_ids(shop: Workshop, setting: str) -> Facts:
    """Ids from the items' vectors or from chance: `kmeans`, `rq` or `random`."""
    makers: dict[str, Callable[[], np.ndarray]] = {
        "kmeans": lambda: hierarchical_kmeans(
            shop.vectors, shop.sizes, seed=shop.seed, cosine=shop.cosine
        ),
        "rq": lambda: residual_kmeans(shop.vectors, shop.sizes, seed=shop.seed),
        "random": lambda: random_codes(len(shop.state.codes), shop.sizes, seed=shop.seed),
    }
    if setting not in makers:
        raise ConfigError(f"ids: {setting!r} is unknown; known: {', '.join(makers)}.")
    codes = makers[setting]()
    shop.state.codes[:] = torch.from_numpy(codes.astype(np.int64))
    shop.state.start_codes[:] = shop.state.codes
    start_heads(shop, codes, list(range(len(shop.sizes))))
    shop.model.set_index(shop.state.codes)
    return {"ids": setting}


def assign_level(shop: Workshop, setting: Method) -> Facts:
    """Give every item its code of the stage's level by the model's item side, under capacity."""
    level = shop.stage.level - 1
    log_p = level_log_probs(shop.model, shop.data.items, shop.state.codes[:, :level].numpy(), level)
    found = assign_within(log_p, shop.parents(level), method=setting, seed=shop.seed)
    shop.state.codes[:, level] = torch.from_numpy(found.codes.astype(np.int64))
    facts = {"level": level + 1, "displaced": float(found.displaced), **_use(shop, level)}
    if (shop.state.start_codes[:, level] >= 0).all():
        moved = shop.state.codes[:, level] != shop.state.start_codes[:, level]
        facts["changed_from_start"] = float(moved.float().mean())
    _warn_of_many(found.displaced, level)
    if level + 1 == len(shop.sizes):
        shop.model.set_index(shop.state.codes)
    return facts


def reassign(shop: Workshop, setting: Any) -> Facts:
    """The M-step of URI's section 4.1: the assignment of greatest summed log-likelihood.

    For every item log P(code | query, parent) is summed over its training queries, its own
    item-side distribution is added once, and each parent's items are assigned exactly (or
    greedily, as the paper does) under capacity. `setting` is a method or a dictionary with
    `method` and `levels` (from 1; all but the first by default).
    """
    options = setting if isinstance(setting, dict) else {"method": setting}
    levels = options.get("levels") or list(range(2, len(shop.sizes) + 1))
    if levels != list(range(levels[0], len(shop.sizes) + 1)):
        raise ConfigError(
            f"reassign: levels is {levels}; ids below a level that moves move with it, so all "
            f"levels down to {len(shop.sizes)} were expected."
        )
    before = shop.state.codes.clone()
    facts: Facts = {}
    for level in (number - 1 for number in levels):
        above = shop.state.codes[:, :level].numpy()
        score = query_log_likelihood(shop, level)
        score += level_log_probs(shop.model, shop.data.items, above, level)
        found = assign_within(
            score.astype(np.float32), shop.parents(level), method=options["method"], seed=shop.seed
        )
        shop.state.codes[:, level] = torch.from_numpy(found.codes.astype(np.int64))
        facts[f"displaced_{level + 1}"] = float(found.displaced)
        _warn_of_many(found.displaced, level)
    moved = (shop.state.codes != before).any(1)
    facts |= {"leaves_changed": float(moved.float().mean()), **_use(shop, len(shop.sizes) - 1)}
    shop.model.set_index(shop.state.codes)
    return facts


def _warn_of_many(displaced: float, level: int) -> None:
    if displaced > _MANY_DISPLACED:
        logger.warning(
            "Capacity moved %.0f %% of the items away from their most probable code at level %d; "
            "a larger balance weight or fewer codes help.",
            100 * displaced,
            level + 1,
        )


def query_log_likelihood(shop: Workshop, level: int, batch_size: int = 512) -> np.ndarray:
    """For every item the sum of log P(code | query, its prefix) over its training queries.

    Returns:
        float64 [N, K]; zeros for an item without training queries.
    """
    data, model = shop.data, shop.model
    total = np.zeros((len(shop.state.codes), shop.sizes[level]))
    lengths = data.train.lengths()[data.pair_query]
    order = np.argsort(-lengths, kind="stable")
    model.eval()
    starts = range(0, len(order), batch_size)
    with torch.no_grad():
        for first in tqdm(starts, desc="Likelihood", disable=len(starts) < 20, leave=False):
            pairs = order[first : first + batch_size]
            rows = data.pair_row[pairs]
            inputs = to_device(data.train.batch(data.pair_query[pairs]), model.device)
            prefix = shop.state.codes[torch.from_numpy(rows), :level].to(model.device)
            logits = model.level_logits(model.encode_query(**inputs), prefix)
            np.add.at(total, rows, logits.double().log_softmax(-1).cpu().numpy())
    return total


def _use(shop: Workshop, level: int) -> Facts:
    """Share of the level's codes in use, the relative entropy of their use, APE of the nodes."""
    counts = torch.bincount(shop.state.codes[:, level], minlength=shop.sizes[level]).double()
    share: Tensor = counts / counts.sum()
    entropy = -(share * share.clamp(min=1e-12).log()).sum() / np.log(max(shop.sizes[level], 2))
    nodes = node_numbers(shop.state.codes.numpy(), shop.sizes, level)
    return {
        "codes_used": float((counts > 0).double().mean()),
        "code_entropy": float(entropy),
        "ape": ape(nodes, interactions(shop.data.train.queries)),
    }


ACTIONS: dict[str, Action] = {
    "clusters": start_clusters,
    "ids": give_ids,
    "assign": assign_level,
    "reassign": reassign,
}


def perform(shop: Workshop, actions: dict[str, Any]) -> Facts:
    """Do the actions of a stage border in order and gather what they report.

    Raises:
        ConfigError: When an action is unknown.
    """
    facts: Facts = {}
    for name, setting in actions.items():
        if name not in ACTIONS:
            raise ConfigError(f"Unknown action '{name}'; known: {', '.join(ACTIONS)}.")
        facts |= ACTIONS[name](shop, setting)
    return facts

"""What happens to ids between steps: clusters and codebooks to start at, ids, names, negatives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from hf_genret.encoding import pooled_vectors
from hf_genret.errors import ConfigError
from hf_genret.indexing import (
    cluster_level,
    node_centroids,
    running_numbers,
)
from hf_genret.modeling.heads_genret import ClusterHeads
from hf_genret.training.assignment import assign, reassign
from hf_genret.training.codebook_starts import QUERY_AWARE, start_codebooks
from hf_genret.training.given import give_codes
from hf_genret.training.path_assignment import assign_paths
from hf_genret.training.workshop import Facts, Workshop

logger = logging.getLogger(__name__)

Action = Callable[[Workshop, Any], Facts]


def start_clusters(shop: Workshop, setting: Any) -> Facts:
    """Start a level's heads at balanced clusters of the items below each parent.

    `setting` says what is clustered: `balanced` the items' vectors, `query_aware` items as their
    queries see them. The heads stand at the centres of the items' own vectors in either case.
    """
    level = shop.stage.level - 1
    codes = cluster_level(
        shop.query_aware_vectors if setting == QUERY_AWARE else shop.vectors,
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


def start_heads(
    shop: Workshop, codes: np.ndarray, levels: list[int], rows: np.ndarray | None = None
) -> None:
    """Put cluster heads at the centres of the present nodes; plain heads have no such place.

    Args:
        shop: Model and items.
        codes: Ids, [P, L].
        levels: From 0.
        rows: The document of each id, [P]; one id each by default.
    """
    heads = shop.model.heads
    if not isinstance(heads, ClusterHeads):
        return
    several = rows is not None and len(rows) > len(shop.vectors)
    points = shop.vectors[rows] if several else shop.vectors
    for level in levels:
        if heads.is_flat(level):
            logger.warning("Level %d has too many nodes for centres of its own.", level + 1)
            continue
        centres = node_centroids(points, codes, shop.sizes, level, normalize=shop.cosine)
        heads.start(level, torch.from_numpy(centres))


def give_ids(shop: Workshop, setting: str) -> Facts:
    """Ids from vectors, interactions, texts or a file; heads start at the ids' clusters."""
    found = give_codes(shop, setting)
    shop.state.give_paths(found if found.ndim == 3 else found[:, None])
    shop.state.start_codes[:] = shop.state.codes
    codes, rows = shop.state.ids()
    start_heads(shop, codes.numpy(), list(range(len(shop.sizes))), rows.numpy())
    shop.index()
    return {"ids": setting}


def centre_heads(shop: Workshop, setting: str) -> Facts:
    """Put cluster heads at the centres of the present ids, which an indexer may have given."""
    if not shop.state.whole:
        raise ConfigError(f"heads: {setting} needs ids; give them first (ids or assign).")
    codes, rows = shop.state.ids()
    start_heads(shop, codes.numpy(), list(range(len(shop.sizes))), rows.numpy())
    return {"heads": setting}


def rename(shop: Workshop, setting: str) -> Facts:
    """Change the names of the last level's codes: the variants of URI's Table 3.

    `uniform` (variant 1) permutes them in one way for all parents, `by_parent` (variant 2) in a
    way of each parent's own. Buckets stay what they were.
    """
    shop.one_id_each()
    size = shop.sizes[-1]
    rng = np.random.default_rng(shop.seed)
    codes = shop.state.codes
    parents = torch.from_numpy(shop.parents(len(shop.sizes) - 1))
    _, parent = parents.unique(return_inverse=True)
    ways = 1 if setting == "uniform" else int(parent.max()) + 1
    names = torch.from_numpy(np.stack([rng.permutation(size) for _ in range(ways)]))  # [ways, K]
    codes[:, -1] = names[parent % ways, codes[:, -1]]
    start_heads(shop, codes.numpy(), [len(shop.sizes) - 1])
    shop.index()
    return {"renamed": setting}


def disambiguate(shop: Workshop, setting: Any) -> Facts:
    """Fill the last level with a running number inside each bucket, modulo its size.

    The fourth code of GenRet's released code: it tells documents of one bucket apart.
    """
    del setting
    shop.one_id_each()
    number = running_numbers(shop.parents(len(shop.sizes) - 1))
    shop.state.codes[:, -1] = torch.from_numpy(number % shop.sizes[-1])
    shop.index()
    return {"largest_bucket": int(number.max()) + 1}


def mine(shop: Workshop, setting: dict[str, int]) -> Facts:
    """Hard negatives of every training query: what the present encoder ranks highest and is wrong.

    `setting` has `depth`, negatives kept a query, and `skip`, ranks passed over (many of the first
    are right answers that nobody judged). The ranker's objective reads them.
    """
    depth, skip = int(setting["depth"]), int(setting.get("skip", 0))
    model, train = shop.model, shop.data.train
    items = model.ranker.similarity.items(torch.from_numpy(shop.vectors).to(model.device))
    relevant = train.queries.relevant
    most = max((len(gains) for gains in relevant), default=0)
    found = torch.zeros(len(train), depth, dtype=torch.int64)
    queries = pooled_vectors(model, train).to(model.device)
    steps = range(0, len(train), 512)
    for first in tqdm(steps, desc="Mining", disable=len(steps) < 20, leave=False):
        with torch.no_grad():
            scores = model.ranker.similarity.queries(queries[first : first + 512]) @ items.T
            best = scores.topk(min(depth + skip + most, len(items)), dim=1).indices.cpu()
        for place, rows in enumerate(best):
            wrong = [row for row in rows.tolist() if row not in relevant[first + place]]
            wrong = wrong[skip:] or wrong or rows.tolist()
            found[first + place] = torch.tensor((wrong * depth)[:depth])
    shop.state.objective["hard"] = found
    return {"mined": depth}


ACTIONS: dict[str, Action] = {
    "clusters": start_clusters,
    "ids": give_ids,
    "codebook": start_codebooks,
    "heads": centre_heads,
    "assign": assign,
    "reassign": reassign,
    "rename": rename,
    "disambiguate": disambiguate,
    "mine": mine,
    "paths": assign_paths,
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

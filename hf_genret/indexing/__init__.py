"""Assigners: from vectors or probabilities to ids."""

from __future__ import annotations

from hf_genret.indexing.capacity import Assignment, assign, assign_within, capacities
from hf_genret.indexing.codes import (
    cluster_level,
    hierarchical_kmeans,
    node_centroids,
    node_numbers,
    random_codes,
    residual_kmeans,
)
from hf_genret.indexing.kmeans import Clusters, balanced_kmeans, kmeans

__all__ = [
    "Assignment",
    "Clusters",
    "assign",
    "assign_within",
    "balanced_kmeans",
    "capacities",
    "cluster_level",
    "hierarchical_kmeans",
    "kmeans",
    "node_centroids",
    "node_numbers",
    "random_codes",
    "residual_kmeans",
]

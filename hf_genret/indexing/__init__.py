"""Assigners: from vectors or probabilities to ids."""

from __future__ import annotations

from hf_genret.indexing.bounded import bounded_codes
from hf_genret.indexing.capacity import Assignment, assign, assign_within, capacities
from hf_genret.indexing.codes import (
    cluster_level,
    hierarchical_kmeans,
    node_centroids,
    node_numbers,
    random_codes,
    residual_kmeans,
    running_numbers,
)
from hf_genret.indexing.collaborative import collaborative_vectors, query_aware_vectors
from hf_genret.indexing.constrained import constrained_kmeans, prefix_centred
from hf_genret.indexing.id_files import read_ids, write_ids
from hf_genret.indexing.kmeans import Clusters, balanced_kmeans, kmeans
from hf_genret.indexing.priced import priced_codes
from hf_genret.indexing.quantizers import product_quantization, rq_vae, vq_vae
from hf_genret.indexing.scratch import ScratchMatrix
from hf_genret.indexing.sinkhorn import centred, sinkhorn
from hf_genret.indexing.text_ids import atomic_codes, title_codes

__all__ = [
    "Assignment",
    "Clusters",
    "ScratchMatrix",
    "assign",
    "assign_within",
    "atomic_codes",
    "balanced_kmeans",
    "bounded_codes",
    "capacities",
    "centred",
    "cluster_level",
    "collaborative_vectors",
    "constrained_kmeans",
    "hierarchical_kmeans",
    "kmeans",
    "node_centroids",
    "node_numbers",
    "prefix_centred",
    "priced_codes",
    "product_quantization",
    "query_aware_vectors",
    "random_codes",
    "read_ids",
    "residual_kmeans",
    "rq_vae",
    "running_numbers",
    "sinkhorn",
    "title_codes",
    "vq_vae",
    "write_ids",
]

"""What an index looks like: sizes, use of the codes, buckets, bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_genret.evaluation.docids import docid_report
from hf_genret.modeling import GenRetModel


def describe_index(model: GenRetModel) -> dict[str, Any]:
    """Facts about a model's id index.

    Returns:
        `documents`, `paths`, `codebook_sizes`, `ids` (that exist), `levels` (nodes and use of the
        codes), `buckets` (min, median, mean, max, histogram of sizes), `duplicates` (ids that name
        more than one document, and those documents), `search_beams` (leaves visited by default),
        `bytes`.
    """
    config, index = model.config, model.index
    codes = index.paths.cpu().numpy()
    sizes = np.diff(index.buckets.cpu().numpy())
    report = docid_report(codes, config.codebook_sizes) if len(codes) else {"levels": []}
    levels = [
        {"level": use["level"], "nodes": nodes, **{k: v for k, v in use.items() if k != "level"}}
        for use, nodes in zip(report["levels"], index.num_nodes, strict=False)
    ]
    shared = sizes[sizes > 1]
    together = index.rows.cpu().numpy()[np.repeat(sizes > 1, sizes)]  # a row once an id
    return {
        "documents": config.num_documents,
        "paths": len(codes),
        "ids": len(sizes) if len(codes) else 0,
        "codebook_sizes": list(config.codebook_sizes),
        "levels": levels,
        "buckets": {
            **report.get("buckets", {}).get("size", {}),
            "histogram": histogram(sizes),
        },
        "duplicates": {"ids": len(shared), "documents": len(np.unique(together))},
        "search_beams": model.default_beams(),
        "bytes": _bytes(model),
    }


def histogram(sizes: np.ndarray) -> dict[str, int]:
    """How many buckets have 1, 2, 3-4, 5-8, ... documents; empty classes are left out."""
    sizes = sizes[sizes > 0]
    classes = np.ceil(np.log2(np.maximum(sizes, 1))).astype(int)
    found = {}
    for power in range(int(classes.max(initial=-1)) + 1):
        low, high = 2**power // 2 + 1, 2**power
        count = int((classes == power).sum())
        if count:
            found[str(high) if low >= high else f"{low}-{high}"] = count
    return found


def _bytes(model: GenRetModel) -> dict[str, int]:
    """Bytes of each part of the checkpoint."""
    index = dict(model.index.named_buffers())
    paths = index["paths"].nbytes
    everything = sum(tensor.nbytes for tensor in model.state_dict().values())
    in_index = sum(buffer.nbytes for buffer in index.values())
    return {
        "csr": in_index - paths,
        "paths": paths,
        "vectors": model.vector_bytes if model.config.num_documents else 0,
        "weights": everything - in_index,
    }

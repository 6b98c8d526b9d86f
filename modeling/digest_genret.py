"""A checkpoint folder that is replaced while it is read: noticed, and refused as a mixture."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from typing import Any

import torch
from safetensors import safe_open

from .vectors_genret import VECTORS_FILE

CONFIG, WEIGHTS, SHARDS = "config.json", "model.safetensors", "model.safetensors.index.json"
ENDS = 2**16  # bytes read of each end of a tensor
KEY = "digest"  # in the configuration


def folder_stamp(folder: str) -> list[tuple[int, ...] | None]:
    """What tells whether somebody replaced files of a folder: equal before and after, or not."""
    stamps: list[tuple[int, ...] | None] = []
    for name in (CONFIG, WEIGHTS, SHARDS, VECTORS_FILE):
        try:
            state = os.stat(os.path.join(folder, name))
            stamps.append((state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))
        except OSError:
            stamps.append(None)
    return stamps


def folder_digest(folder: str) -> dict[str, str]:
    """16 hexadecimal digits each of the weights (ids with them) and of the vectors of a folder.

    Read are names, kinds and shapes of all tensors, and the first and last 64 kB of each, so that
    it costs milliseconds whatever the size. What is not there has no entry.
    """
    digests = {}
    for part, paths in (("weights", _weight_files(folder)), ("vectors", _vector_files(folder))):
        digest = hashlib.sha256()
        for path in paths:
            with safe_open(path, framework="pt") as file:
                for name in sorted(file.keys()):
                    shape = file.get_slice(name).get_shape()
                    digest.update(f"{name} {file.get_slice(name).get_dtype()} {shape}\n".encode())
                    for rows in _ends(file, name, shape):
                        raw = rows.contiguous().reshape(-1).view(torch.uint8)
                        digest.update(raw.numpy().tobytes())
        if paths:
            digests[part] = digest.hexdigest()[:16]
    return digests


def _ends(file: Any, name: str, shape: list[int]) -> list[torch.Tensor]:
    """The first and the last rows of a tensor, all of a small one."""
    rows = max(1, ENDS // max(1, 8 * math.prod(shape[1:])))
    if not shape or shape[0] <= 2 * rows:
        return [file.get_tensor(name)]
    part = file.get_slice(name)
    return [part[:rows], part[-rows:]]


def _weight_files(folder: str) -> list[str]:
    """The safetensors files of a folder's weights."""
    single, shards = os.path.join(folder, WEIGHTS), os.path.join(folder, SHARDS)
    if os.path.isfile(single):
        return [single]
    if not os.path.isfile(shards):
        return []
    with open(shards, encoding="utf-8") as file:
        names = sorted(set(json.load(file)["weight_map"].values()))
    return [os.path.join(folder, name) for name in names]


def _vector_files(folder: str) -> list[str]:
    path = os.path.join(folder, VECTORS_FILE)
    return [path] if os.path.isfile(path) else []


def sign(folder: str) -> None:
    """Note in a folder's configuration which weights, ids and vectors belong to it.

    They get its mode too: the library that writes them makes files that others cannot read.
    """
    path = os.path.join(folder, CONFIG)
    for tensors in (*_weight_files(folder), *_vector_files(folder)):
        shutil.copymode(path, tensors)
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config[KEY] = folder_digest(folder)
    beside = f"{path}.part"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
    os.replace(beside, path)


def check_signature(folder: str, config: Any) -> None:
    """Refuse weights and vectors of another save than the configuration.

    Raises:
        ValueError: When the configuration names others.
    """
    signed, digests = getattr(config, KEY, None) or {}, folder_digest(folder)
    if any(signed[part] != digests[part] for part in signed.keys() & digests.keys()):
        raise ValueError(
            f"{folder}: {CONFIG} and the weights or vectors are of different saves; if it was "
            f"replaced meanwhile, load it again (if the change was meant, remove '{KEY}' from "
            f"{CONFIG})."
        )

"""A checkpoint folder that is replaced while it is read: noticed, and refused as a mixture."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import safe_open

from .vectors_genret import VECTORS_FILE

CONFIG, WEIGHTS, SHARDS = "config.json", "model.safetensors", "model.safetensors.index.json"
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


def folder_digest(folder: str) -> str:
    """16 hexadecimal digits of the weights, ids and vectors of a checkpoint folder.

    Read are names, kinds and shapes of all tensors, and the first and last row of each, so that
    it costs milliseconds whatever the size.
    """
    digest = hashlib.sha256()
    for path in _weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                part = file.get_slice(name)
                shape = part.get_shape()
                digest.update(f"{name} {part.get_dtype()} {shape}\n".encode())
                rows = [part[:1], part[-1:]] if shape and shape[0] else [file.get_tensor(name)]
                for row in rows:
                    raw = row.contiguous().reshape(-1).view(torch.uint8)
                    digest.update(raw.numpy().tobytes())
    return digest.hexdigest()[:16]


def _weight_files(folder: str) -> Iterator[str]:
    """The safetensors files that belong to a checkpoint, weights before vectors."""
    single, shards = os.path.join(folder, WEIGHTS), os.path.join(folder, SHARDS)
    if os.path.isfile(single):
        yield single
    elif os.path.isfile(shards):
        with open(shards, encoding="utf-8") as file:
            names = sorted(set(json.load(file)["weight_map"].values()))
        yield from (os.path.join(folder, name) for name in names)
    if os.path.isfile(os.path.join(folder, VECTORS_FILE)):
        yield os.path.join(folder, VECTORS_FILE)


def sign(folder: str) -> None:
    """Note in a folder's configuration which weights, ids and vectors belong to it.

    They get its mode too: the library that writes them makes files that others cannot read.
    """
    path = os.path.join(folder, CONFIG)
    for weights in _weight_files(folder):
        shutil.copymode(path, weights)
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
    signed = getattr(config, KEY, None)
    if signed is not None and signed != folder_digest(folder):
        raise ValueError(
            f"{folder}: {CONFIG} and the weights or vectors are of different saves; if it was "
            f"replaced meanwhile, load it again (if the change was meant, remove '{KEY}' from "
            f"{CONFIG})."
        )

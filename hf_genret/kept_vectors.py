"""What a frozen text encoder says of texts, kept on disk for other runs on the same texts."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hf_genret.encoding import ItemSource, QuerySource, TokenTable, backbone_vectors
from hf_genret.errors import CheckpointError
from hf_genret.files import atomic_file
from hf_genret.modeling import GenRetModel
from hf_genret.tensor_files import checksum, read_metadata, read_tensors

_DIGEST = 16  # bytes of a text's checksum


def kept_vectors(
    model: GenRetModel, source: ItemSource | QuerySource, folder: Path | None
) -> Tensor:
    """`backbone_vectors`, each text's read from a folder where a run wrote it before.

    A file's name is a checksum of the encoder's weights and settings and of the texts in it, and
    beside each vector stands a checksum of its text's token ids. So a vector that fits is always
    right, and a part of a corpus takes its rows from the file of the whole. Texts that no file
    holds are encoded and written to a file of their own.

    Args:
        model: With a text encoder that does not learn.
        source: Texts.
        folder: Where vectors are kept; None computes them anew.

    Returns:
        [n, D] on the CPU.

    Raises:
        ValueError: When the source has no text.
    """
    if folder is None or source.tokens is None:
        return backbone_vectors(model, source)
    encoder, texts = _encoder_checksum(model, source), _text_checksums(source.tokens)
    out = torch.zeros(len(texts), _encoder(model, source).dim)
    missing = np.ones(len(texts), dtype=bool)
    for path in sorted(folder.glob(f"{encoder}-*.safetensors")):
        if missing.any():
            with contextlib.suppress(CheckpointError):  # damaged: the texts are encoded anew
                _take(path, texts, out, missing)
    if missing.any():
        rows = np.flatnonzero(missing)
        vectors = backbone_vectors(model, source, numbers=rows)
        out[torch.from_numpy(rows)] = vectors
        _write(folder, encoder, texts[rows], vectors)
    return out


def _take(path: Path, texts: np.ndarray, out: Tensor, missing: np.ndarray) -> None:
    """Fill rows of `out` from one file and strike them off what is missing.

    Raises:
        CheckpointError: When the file is not as it was written.
    """
    tensors = read_tensors(path)
    if read_metadata(path).get("checksum") != checksum(tensors):
        raise CheckpointError(f"{path}: the file is damaged, or of another version.")
    known = np.ascontiguousarray(tensors["texts"].numpy()).view(f"S{_DIGEST}")[:, 0]
    order = np.argsort(known)
    rows = np.flatnonzero(missing)
    place = np.searchsorted(known, texts[rows], sorter=order).clip(max=len(known) - 1)
    place = order[place]
    fits = known[place] == texts[rows]
    if fits.any():
        vectors = tensors["vectors"][torch.from_numpy(place[fits])]
        out[torch.from_numpy(rows[fits])] = vectors
        missing[rows[fits]] = False


def _write(folder: Path, encoder: str, texts: np.ndarray, vectors: Tensor) -> None:
    name = f"{encoder}-{hashlib.sha256(texts.tobytes()).hexdigest()[:32]}.safetensors"
    bytes_of_texts = torch.from_numpy(texts.view(np.uint8).reshape(len(texts), _DIGEST))
    tensors = {"vectors": vectors.contiguous(), "texts": bytes_of_texts}
    # A folder of that name is nobody's file, and stays.
    with contextlib.suppress(IsADirectoryError), atomic_file(folder / name) as fresh:
        save_file(tensors, fresh, metadata={"checksum": checksum(tensors)})


def _encoder(model: GenRetModel, source: ItemSource | QuerySource) -> Any:
    return model.encoder.item_side if isinstance(source, ItemSource) else model.encoder.query


def _encoder_checksum(model: GenRetModel, source: ItemSource | QuerySource) -> str:
    """32 hexadecimal digits of an encoder's settings and weights."""
    config, settings = model.config, model.config.query_encoder
    if isinstance(source, ItemSource):
        settings = config.item_encoder or settings
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    module: nn.Module = _encoder(model, source)
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


def _text_checksums(tokens: TokenTable) -> np.ndarray:
    """A checksum of each text's token ids, [n] bytes."""
    data, ends = tokens.ids.tobytes(), (tokens.starts * tokens.ids.itemsize).tolist()
    found = [
        hashlib.blake2b(data[first:last], digest_size=_DIGEST).digest()
        for first, last in itertools.pairwise(ends)
    ]
    return np.frombuffer(b"".join(found), dtype=f"S{_DIGEST}").copy()

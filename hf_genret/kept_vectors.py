"""What a frozen text encoder says of texts, kept on disk for other runs on the same texts."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hf_genret.encoding import ItemSource, QuerySource, backbone_vectors
from hf_genret.modeling import GenRetModel


def kept_vectors(
    model: GenRetModel, source: ItemSource | QuerySource, folder: Path | None
) -> Tensor:
    """`backbone_vectors`, read from a folder where a run wrote them before.

    A file's name is a checksum of the encoder's weights and settings and of all token ids, so a
    file that fits is always right.

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
    path = folder / f"{_checksum(model, source)}.safetensors"
    if path.is_file():
        return load_file(path)["vectors"]
    vectors = backbone_vectors(model, source)
    folder.mkdir(parents=True, exist_ok=True)
    # A place of its own: another process may be writing the same file.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as own:
        beside = Path(own) / path.name
        save_file({"vectors": vectors.contiguous()}, beside)
        beside.replace(path)
    return vectors


def _checksum(model: GenRetModel, source: ItemSource | QuerySource) -> str:
    """32 hexadecimal digits of settings, weights and token ids."""
    assert source.tokens is not None
    config, settings = model.config, model.config.query_encoder
    encoder: Any = model.encoder.query
    if isinstance(source, ItemSource):
        encoder, settings = model.encoder.item_side, config.item_encoder or settings
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    module: nn.Module = encoder
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    found.update(source.tokens.ids.tobytes())
    found.update(source.tokens.starts.tobytes())
    return found.hexdigest()[:32]

"""The ranker's vectors: how exact they are kept, and their file, read where they are needed."""

from __future__ import annotations

import os

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

VECTORS_FILE = "vectors.safetensors"
PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "int8": torch.int8,
}
_LARGEST = 127  # of int8, both ways


def compressed(vectors: Tensor, precision: str) -> tuple[Tensor, Tensor | None]:
    """Vectors [N, D] in another precision, with a scale a vector [N] where they are integers.

    Raises:
        ValueError: For an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"The precision of vectors is {precision!r}; known: {', '.join(PRECISIONS)}."
        )
    if precision != "int8":
        return vectors.to(PRECISIONS[precision]), None
    scales = (vectors.abs().amax(1).float() / _LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    return (vectors / scales[:, None]).round().to(torch.int8), scales


def take_rows(vectors: Tensor, scales: Tensor | None, row: Tensor) -> Tensor:
    """Rows of the vectors, on the rows' device: only what is asked for travels there."""
    place = row.to(vectors.device)
    found = vectors[place].to(row.device)
    return found if scales is None else found.float() * scales[place].to(row.device).unsqueeze(-1)


def save_vectors(vectors: Tensor, scales: Tensor | None, path: str) -> None:
    """Write the ranker's vectors [N, D] to a safetensors file.

    They may be mapped from the very file that is replaced: write beside it, then rename.
    """
    tensors = {"vectors": vectors} if scales is None else {"vectors": vectors, "scales": scales}
    beside = f"{path}.part"
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, beside)
    os.replace(beside, path)


def load_vectors(path: str, documents: int, dim: int) -> tuple[Tensor, Tensor | None]:
    """Open the ranker's vectors [documents, dim]; the file is memory-mapped where possible.

    Returns:
        Vectors, and their scales where they are kept as integers.

    Raises:
        ValueError: When they are of another shape, or integers without scales.
    """
    name = os.path.basename(path)
    with safe_open(path, framework="pt") as file:
        if "vectors" not in file.keys():  # noqa: SIM118
            raise ValueError(f"{name} holds no vectors")
        part, scaled = file.get_slice("vectors"), "scales" in file.keys()  # noqa: SIM118
        shape, kind = list(part.get_shape()), part.get_dtype()
        if shape != [documents, dim]:
            raise ValueError(f"{name} has the shape {shape}, {[documents, dim]} was expected")
        if kind == "I8" and not scaled:
            raise ValueError(f"{name} holds integers without their scales")
        if scaled and list(file.get_slice("scales").get_shape()) != [documents]:
            raise ValueError(f"{name} has another number of scales than of vectors")
        return file.get_tensor("vectors"), file.get_tensor("scales") if scaled else None

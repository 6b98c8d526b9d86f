"""Large contrastive batches: the activations of one chunk are held at a time, not of the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hf_genret.modeling import EncoderOutput

Encode = Callable[..., EncoderOutput]
_READ = ("input_ids", "history")  # inputs that an encoder works on; all others are looked up


def encode_in_chunks(encode: Encode, inputs: dict[str, Tensor], size: int) -> Tensor:
    """Pooled vectors of a batch whose gradient is computed chunk by chunk (GradCache).

    Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (2021):
    (1) encode every chunk without a graph, (2) take the loss and its gradient over all vectors,
    (3) encode each chunk again, now with a graph, and go back from the cached gradients of its
    vectors. Here autograd does (3) when it comes to a chunk, the last chunk first, and frees its
    graph before the next one; DDP sees one backward pass. The random state of (1) is put back for
    (3), so that both draw the same dropout. The gradient is that of encoding the chunks with their
    graphs; it differs from encoding all at once by rounding, and by other draws of dropout.

    Args:
        encode: `GenRetModel.encode_query` or `encode_items`.
        inputs: Its arguments, [B, ...] each. Catalogue rows and vectors of a frozen encoder are
            never cut: there is nothing to save.
        size: Examples a chunk; 0 for all at once.

    Returns:
        [B, D].
    """
    whole = len(next(iter(inputs.values())))
    if not 0 < size < whole or not any(name in inputs for name in _READ):
        return encode(**inputs).pooler_output

    def vectors(part: dict[str, Tensor]) -> Tensor:
        return encode(**part).pooler_output

    chunks = []
    for first in range(0, whole, size):
        part = {name: value[first : first + size] for name, value in inputs.items()}
        chunks.append(checkpoint(vectors, part, use_reentrant=False, preserve_rng_state=True))
    return torch.cat(chunks)

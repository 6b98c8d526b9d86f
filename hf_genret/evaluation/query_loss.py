"""What a decoder still has to learn, level by level: the loss of ids that are relevant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hf_genret.encoding import QuerySource, encode
from hf_genret.modeling import EncoderOutput, GenRetModel

_PAIRS = 1024
"""Queries and documents decoded at once, fewer where levels have very many codes."""
_CELLS = 2**24
"""Logits of a level held at once, 128 MB of float64."""


def query_loss(
    model: GenRetModel,
    source: QuerySource,
    relevant: Sequence[Mapping[int, float]],
    *,
    batch_size: int = 256,
) -> list[dict[str, float]]:
    """The cross-entropy of relevant documents' codes, each after the right codes before it.

    Where a beam search loses documents shows here: a level whose loss is near that of an even guess
    has learned little of what queries say. The softmax is over all codes of a level, as in
    training.

    Args:
        model: With an index.
        source: The queries as the model reads them.
        relevant: Document row -> gain of each query, as `Queries.relevant`. Of a document with
            several ids the first counts, of a query the mean over its documents.
        batch_size: Queries encoded at once.

    Returns:
        For each level `level` (from 1), `loss` (nats, the mean over queries), `even` (ln K, that of
        an even guess) and `first` (how often the code is the most probable). Empty where no
        relevant document has an id.
    """
    count = model.config.num_documents
    codes, known = model.index.codes_of(torch.arange(count, device=model.index.rows.device))
    rows = [[row for row in gains if row < count and known[row]] for gains in relevant]
    step = max(1, min(_PAIRS, _CELLS // max(model.config.codebook_sizes)))
    total, queries = torch.zeros(model.config.num_levels, 2, dtype=torch.float64), 0
    for numbers, encoded in encode(model, source, batch_size=batch_size, description="Loss"):
        pairs = [(n, row, len(rows[i])) for n, i in enumerate(numbers) for row in rows[i]]
        for first in range(0, len(pairs), step):
            place, row, share = torch.tensor(pairs[first : first + step]).to(codes.device).T
            several = EncoderOutput({name: value[place] for name, value in encoded.items()})
            total += (_values(model, several, codes[row]) / share[:, None, None]).sum(0).cpu()
        queries += sum(bool(rows[i]) for i in numbers)
    if not queries:
        return []
    return [
        {"level": level, "loss": loss, "even": float(np.log(size)), "first": right}
        for level, (size, (loss, right)) in enumerate(
            zip(model.config.codebook_sizes, (total / queries).tolist(), strict=True), start=1
        )
    ]


def _values(model: GenRetModel, encoded: EncoderOutput, codes: Tensor) -> Tensor:
    """Loss, and whether the code is the most probable, of B queries and ids [B, L]: [B, L, 2]."""
    levels = []
    with torch.no_grad():
        for logits, code in zip(model.path_logits(encoded, codes), codes.T, strict=True):
            loss = -logits.double().log_softmax(-1).gather(1, code[:, None])[:, 0]  # [B]
            levels.append(torch.stack([loss, (logits.argmax(-1) == code).double()], dim=1))
    return torch.stack(levels, dim=1)

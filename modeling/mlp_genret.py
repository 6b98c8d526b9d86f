"""The MLP decoder (Deep Retrieval): a level reads the query and the codes before side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache

from .configuration_genret import GenRetConfig


class MlpSteps:
    """A search through the decoder, as `steps_genret.DecoderSteps`: it keeps what was read.

    Args:
        decoder: The decoder.
    """

    def __init__(self, decoder: MlpDecoder) -> None:
        self.decoder = decoder
        self.seen: Tensor | None = None  # [R, positions * d]

    def step(self, inputs: Tensor) -> Tensor:
        """Hidden states [R, d] at the next position, where `inputs` [R, d] stand."""
        self.seen = inputs if self.seen is None else torch.cat([self.seen, inputs], dim=1)
        position = self.seen.shape[1] // inputs.shape[1] - 1
        states: Tensor = self.decoder.layers[position](self.seen)
        return states

    def follow(self, beams: Tensor) -> None:
        """Go on from some beams: numbers among those of the last step, [R]."""
        if self.seen is not None:
            self.seen = self.seen.index_select(0, beams)


class MlpDecoder(nn.Module):
    """One MLP a level over the query and the embeddings of the codes before (arXiv 2007.07203).

    p(c_l | x, c_<l) = softmax(W_l MLP_l([x; e(c_1); ...; e(c_{l-1})])), Eq. 1, with x the pooled
    vector. `decoder_layers` is the number of hidden layers of each MLP.
    """

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.embedding = nn.Embedding(config.vocab_size, dim)
        self.code_map: nn.Module | None = None
        self.query = nn.Linear(config.vector_dim, dim)
        self.layers = nn.ModuleList(
            _perceptron((level + 1) * dim, dim, config) for level in range(config.num_levels)
        )

    def start(self, vectors: Tensor) -> Tensor:
        """What position 0 reads: the query's pooled vector [B, D], mapped to [B, d]."""
        states: Tensor = self.query(vectors)
        return states

    def steps(self, memory: Tensor, memory_mask: Tensor) -> MlpSteps:
        """A search; the encoder's vectors are not read beside the pooled one."""
        del memory, memory_mask
        return MlpSteps(self)

    def forward(
        self,
        inputs: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Hidden states of the positions that are not in the cache.

        Args:
            inputs: [B, new, d], what stands at the new positions: the query, then the codes.
            memory: Not read; the pooled vector stands in `inputs`.
            memory_mask: Likewise.
            cache: Inputs at earlier positions, from generate(), kept where keys would be.

        Returns:
            [B, new, d].
        """
        del memory, memory_mask
        past = 0
        if cache is not None:
            past = cache.get_seq_length()
            kept = inputs.unsqueeze(1)  # as one attention head
            inputs = cache.self_attention_cache.update(kept, kept, 0)[0].squeeze(1)
        states = [
            self.layers[level](inputs[:, : level + 1].flatten(1))
            for level in range(past, inputs.shape[1])
        ]
        return torch.stack(states, dim=1)


def _perceptron(width: int, dim: int, config: GenRetConfig) -> nn.Sequential:
    """Hidden layers [.., width] -> [.., dim]."""
    layers: list[nn.Module] = []
    for _ in range(config.decoder_layers):
        layers += [nn.Linear(width, dim), nn.GELU(), nn.Dropout(config.decoder_dropout)]
        width = dim
    return nn.Sequential(*layers)

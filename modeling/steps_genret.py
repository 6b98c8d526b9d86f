"""A search through the decoder: one position after another, all beams of its queries at once.

What `TransformerDecoder.forward` computes, without what a search does not need: keys and values of
the encoder's vectors are computed once a query and shared by its beams, those of earlier positions
stand in one block that follows the beams, and plain layers are called as functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .index_genret import may_ask

if TYPE_CHECKING:
    from .decoder_genret import DecoderBlock, TransformerDecoder


def attend(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Attention of single positions to a few earlier ones of their own.

    A few positions of many rows are quicker to multiply and add up than as R small products.

    Args:
        query: [R, d].
        keys: [positions, R, d].
        values: [positions, R, d].
        heads: Parts of d that attend apart.

    Returns:
        [R, d].
    """
    rows, width = query.shape
    shape = len(keys), rows, heads, width // heads
    scores = (query.view(shape[1:]) * keys.view(shape)).sum(-1)  # [positions, R, heads]
    weights = scores.mul_(shape[-1] ** -0.5).softmax(0).unsqueeze(-1)
    return (weights * values.view(shape)).sum(0).view(rows, width)


class DecoderSteps:
    """A search through the decoder.

    Args:
        decoder: The decoder.
        memory: [B', T, D], the encoder's vectors.
        memory_mask: [B', T], 1 where a vector counts.
    """

    def __init__(self, decoder: TransformerDecoder, memory: Tensor, memory_mask: Tensor) -> None:
        self.positions = decoder.position.weight
        self.norm = direct(decoder.norm)
        mask: Tensor | None = memory_mask.bool()[:, None, None, :]
        if mask is not None and may_ask(mask) and bool(mask.all()):
            mask = None  # attention is faster without one
        memory = decoder.memory_norm(decoder.memory(memory))
        blocks: list[Any] = list(decoder.blocks)
        self.blocks = [_BlockSteps(block, memory, mask) for block in blocks]
        # Keys and values of each block at each position, [L, 2 * blocks, R, d].
        self.past = memory.new_empty(len(self.positions), 2 * len(blocks), 0, memory.shape[-1])
        self.position = 0

    def step(self, inputs: Tensor) -> Tensor:
        """Hidden states [R, d] at the next position, where `inputs` [R, d] stand."""
        states = inputs + self.positions[self.position]
        if self.position == 0:
            self.past = states.new_empty(*self.past.shape[:2], *states.shape)
        self.position += 1
        seen = self.past[: self.position]
        for i, block in enumerate(self.blocks):
            states = block.step(states, seen[:, 2 * i], seen[:, 2 * i + 1])
        return self.norm(states)

    def follow(self, beams: Tensor) -> None:
        """Go on from some beams: numbers among those of the last step, [R]."""
        before = self.past
        self.past = before.new_empty(*before.shape[:2], len(beams), before.shape[-1])
        old, new = (block[: self.position].flatten(0, 1) for block in (before, self.past))
        torch.index_select(old, 1, beams, out=new)


class _BlockSteps:
    """One decoder block in a search: what it does at one position, and what it knows of memory.

    Args:
        block: The block.
        memory: [B', T, d], the encoder's vectors as blocks read them.
        mask: [B', 1, 1, T], True where a vector counts; None where all do.
    """

    def __init__(self, block: DecoderBlock, memory: Tensor, mask: Tensor | None) -> None:
        own, cross = block.self_attention, block.cross_attention
        self.heads, self.queries, self.mask = own.heads, len(memory), mask
        self.self_norm, self.feed_norm = direct(block.self_norm), direct(block.feed_norm)
        self.read, self.output = together(own.query, own.key, own.value), direct(own.output)
        first, _, second = block.feed_forward
        self.widen, self.narrow = direct(first), direct(second)
        self.alone: Tensor | None = None
        if memory.shape[1] == 1:
            # All attention goes to a single vector, whatever asks: what the block adds, [B', 1, d].
            self.alone = cross.output(cross.value(memory))
            return
        self.keys, self.values = cross.keys_values(memory)  # [B', heads, T, d / heads]
        self.cross_norm = direct(block.cross_norm)
        self.cross_query, self.cross_output = direct(cross.query), direct(cross.output)

    def step(self, states: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The new states [R, d] of one position.

        Args:
            states: [R, d], what stands there.
            keys: [positions, R, d], of the positions before; the last is written now.
            values: Likewise.
        """
        query, key, value = self.read(self.self_norm(states))
        keys[-1].copy_(key)
        values[-1].copy_(value)
        # A single position attends to itself.
        seen = attend(query, keys, values, self.heads) if len(keys) > 1 else value
        states = states + self.output(seen)
        states = states + self._of_memory(states)
        # In place: another block of four times the width costs as much as the products.
        wide = torch.ops.aten.gelu_(self.widen(self.feed_norm(states)))
        return states + self.narrow(wide)

    def _of_memory(self, states: Tensor) -> Tensor:
        """What the encoder's vectors add to states [R, d]; a query's beams stand side by side."""
        beams = len(states) // self.queries
        if self.alone is not None:
            return self.alone.expand(-1, beams, -1).flatten(0, 1)
        asked = self.cross_query(self.cross_norm(states))
        asked = asked.view(self.queries, beams, self.heads, -1).transpose(1, 2)
        seen = functional.scaled_dot_product_attention(  # [B', heads, M, d / heads]
            asked, self.keys, self.values, attn_mask=self.mask
        )
        return self.cross_output(seen.transpose(1, 2).flatten(2).flatten(0, 1))


def direct(layer: nn.Module) -> Callable[..., Any]:
    """A layer as a function of its input, without what calling a module costs.

    A layer with hooks, or of a class of its own (an adapter, a quantized layer), stays as it is.
    """
    if layer._forward_hooks or layer._forward_pre_hooks:
        return layer
    if type(layer) is nn.Linear:
        return partial(functional.linear, weight=layer.weight, bias=layer.bias)
    if type(layer) is nn.LayerNorm:
        shape, weight, bias = list(layer.normalized_shape), layer.weight, layer.bias
        return partial(
            functional.layer_norm, normalized_shape=shape, weight=weight, bias=bias, eps=layer.eps
        )
    return layer


_SMALL = 256  # width up to which copying weights side by side costs less than the calls it saves


def together(*layers: nn.Module) -> Callable[[Tensor], Sequence[Tensor]]:
    """Layers that read the same, as one function; as one product where they are small and plain."""
    calls = [direct(layer) for layer in layers]
    plain = [call.keywords for call in calls if isinstance(call, partial)]
    small = all(len(layer["weight"]) <= _SMALL and layer["bias"] is not None for layer in plain)
    if len(plain) < len(calls) or not small:
        return lambda states: [call(states) for call in calls]
    weight = torch.cat([layer["weight"] for layer in plain])
    bias = torch.cat([layer["bias"] for layer in plain])
    return lambda states: functional.linear(states, weight, bias).chunk(len(calls), dim=-1)

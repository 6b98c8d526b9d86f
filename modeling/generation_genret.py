"""generate() under the trie of ids that exist: a logits processor, and the settings it allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from .index_genret import DocidIndex, may_ask
from .mask_genret import Children, mask_scores


class TrieLogitsProcessor(LogitsProcessor):
    """Leaves only tokens that continue an id of the index.

    It carries nothing from step to step: the node is found again from the tokens so far, since
    generate() does not say how it reorders beams. A row whose prefix is no prefix of an id
    (generate() makes such rows when it is asked for more ids than exist) may only emit the pad
    token.

    Args:
        index: The ids.
        offsets: First token of each level's block.
        start: Number of tokens before the first code (the start token).

    Example:
        >>> trie = TrieLogitsProcessor(model.index, model.config.level_offsets)
        >>> processors = LogitsProcessorList([trie])
    """

    def __init__(self, index: DocidIndex, offsets: list[int], start: int = 1) -> None:
        if len(index) == 0:
            raise ValueError("The id index is empty; index documents before generating ids.")
        self.index, self.offsets, self.start = index, offsets, start
        self._last: tuple[Tensor, int, Tensor] | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask `scores` [B, V] given the tokens so far [B, start + l]."""
        level = input_ids.shape[1] - self.start
        node = self._locate(input_ids, level)
        block = slice(self.offsets[level], self.offsets[level] + self.index.sizes[level])
        out = torch.full_like(scores, -torch.inf)
        children = Children(self.index, level, node.clamp(min=0))
        mask_scores(children, scores[:, block], out=out[:, block])
        nowhere = node < 0
        if not may_ask(nowhere) or bool(nowhere.any()):
            out.masked_fill_(nowhere[:, None], -torch.inf)
            out[:, 0].masked_fill_(nowhere, 0.0)
        return out

    def _locate(self, input_ids: Tensor, level: int) -> Tensor:
        """Node of each row [B]; found once where the processor stands first and last in a step."""
        version = -1 if input_ids.is_inference() else input_ids._version
        if self._last is not None and self._last[0] is input_ids and self._last[1] == version:
            return self._last[2]
        node = self.index.locate_tokens(input_ids[:, self.start :], self.offsets)
        self._last = input_ids, version, node
        return node


# Settings of generate() that contradict ids of fixed length, with the value that leaves them off.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "min_length": (0, None),
    "min_new_tokens": (0, None),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "bad_words_ids": (None,),
    "sequence_bias": (None,),
    "no_repeat_ngram_size": (0, None),
    "encoder_no_repeat_ngram_size": (0, None),
    "guidance_scale": (None, 1, 1.0),
    "remove_invalid_values": (False, None),
    "constraints": (None,),
    "force_words_ids": (None,),
    "exponential_decay_length_penalty": (None,),
    "watermarking_config": (None,),
    "eos_token_id": (None, []),
    "max_time": (None,),
    "stop_strings": (None,),
}

# Settings that ask for another way to decode; the values that leave ours as it is.
_OUR_WAY: dict[str, tuple[object, ...]] = {
    "cache_implementation": (None, "dynamic"),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None, 0, 0.0),
    "dola_layers": (None,),
    "prompt_lookup_num_tokens": (None,),
    "assistant_early_exit": (None,),
    "is_assistant": (None, False),
    "use_mtp": (None, False),
    "low_memory": (None, False),
    "token_healing": (None, False),
}


def check_decoding(*settings: Mapping[str, Any]) -> None:
    """Refuse settings that ask for another way to decode, or for a cache of another kind.

    Args:
        settings: In growing rank; None leaves a setting to those before.

    Raises:
        ValueError: Naming the setting, its value and what was expected.
    """
    for name, ours in _OUR_WAY.items():
        said = [one[name] for one in settings if one.get(name) is not None]
        if said and said[-1] not in ours:
            raise ValueError(
                f"{name}={said[-1]!r} is of no use for ids of a few codes; leave it at {ours[0]!r}."
            )


def check_generation(settings: GenerationConfig, num_levels: int) -> None:
    """Refuse settings of generate() under which ids could be cut, lengthened or altered.

    Raises:
        ValueError: Naming the setting, its value and what was expected.
    """
    for name, neutral in _NEUTRAL.items():
        value = getattr(settings, name, None)
        if value not in neutral:
            raise ValueError(
                f"{name}={value!r} contradicts ids of fixed length; leave it at {neutral[0]!r}."
            )
    if settings.max_new_tokens not in (None, num_levels):
        raise ValueError(
            f"max_new_tokens={settings.max_new_tokens} contradicts ids of {num_levels} codes; "
            f"leave it out or give {num_levels}."
        )
    # 20 is what transformers fills in where nothing was said.
    if settings.max_length not in (None, 20, num_levels + 1):
        raise ValueError(
            f"max_length={settings.max_length} contradicts ids of {num_levels} codes; leave it out."
        )


# Arguments of generate() that leave ids whole; others could stop early or decode without the trie.
_ARGUMENTS = {
    "prefix_allowed_tokens_fn",
    "stopping_criteria",
    "streamer",
    "synced_gpus",
    "output_attentions",
    "output_hidden_states",
    "use_cache",
}


def check_arguments(arguments: dict[str, Any]) -> None:
    """Refuse what generate() would pass on in silence: a misspelled setting, another way to decode.

    Args:
        arguments: What is neither a query nor a setting of `GenerationConfig`.

    Raises:
        ValueError: Naming the arguments.
    """
    unknown = [name for name, value in arguments.items() if value is not None]
    unknown = sorted(set(unknown) - _ARGUMENTS)
    if unknown:
        raise ValueError(f"generate() has no use for: {', '.join(unknown)}.")
    if arguments.get("stopping_criteria"):
        raise ValueError("stopping_criteria contradicts ids of fixed length; leave it out.")


def pad_surplus(sequences: Tensor, index: DocidIndex, offsets: list[int], per_query: int) -> Tensor:
    """Replace what is no id, and an id that came before for the same query, by rows of pad.

    generate() fills up with such rows when it is asked for more ids than exist.

    Args:
        sequences: [B * n, 1 + L], start token and codes.
        index: The ids.
        offsets: First token of each level's block.
        per_query: n, ids asked for a query; 1 keeps equal ids (sampling may repeat itself).
    """
    leaf = index.locate_tokens(sequences[:, 1:], offsets)
    surplus = leaf < 0
    if per_query > 1:
        grouped = leaf.view(-1, per_query)
        same = grouped[:, :, None] == grouped[:, None, :]
        surplus = surplus | same.tril(-1).any(-1).view(-1)
    return sequences.masked_fill(surplus[:, None], 0)

"""Loading a pretrained text encoder, with what its folder says of pooling and prompts."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from hf_genret.errors import ConfigError

_POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_cls": "cls",
    "pooling_mode_lasttoken": "last",
}

if TYPE_CHECKING:
    from hf_genret.training.recipes import TextSettings


@dataclass
class TextBackbone:
    """A pretrained encoder and how it wants to be used.

    Attributes:
        model: The encoder with its weights.
        tokenizer: Its tokenizer.
        settings: The `query_encoder` entry of a `GenRetConfig`.
        dim: Width of its vectors.
        max_length: Tokens it can read.
        query_prompt: Put before queries.
        document_prompt: Put before documents.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: dict[str, Any]
    dim: int
    max_length: int
    query_prompt: str
    document_prompt: str


def load_backbone(name: str, wish: TextSettings) -> TextBackbone:
    """Load a text encoder from a folder or the Hub.

    Pooling and prompts are read from a sentence-transformers folder where there is one, unless
    the recipe names them.

    Args:
        name: Folder or Hub name.
        wish: The recipe's settings.

    Raises:
        ConfigError: When nothing can be loaded there, or the encoder needs code of its own.
    """
    try:
        # Said outright, so that nobody is asked at a terminal.
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise ConfigError(f"{name} is an encoder-decoder model; a text encoder was expected.")
        model = AutoModel.from_pretrained(name, trust_remote_code=False, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise ConfigError(
                f"The encoder {name} needs code of its own (trust_remote_code), which cannot "
                "travel with a checkpoint; choose an encoder that transformers knows."
            ) from error
        raise ConfigError(
            f"No text encoder could be loaded from {name}: {_first_line(error)}"
        ) from error
    prompts, longest = _sentence_transformers(name)
    # Some positions are reserved in some architectures, which only the tokenizer knows.
    longest = min(
        longest,
        int(getattr(config, "max_position_embeddings", 512) or 512),
        int(tokenizer.model_max_length),
    )
    return TextBackbone(
        model=model,
        tokenizer=tokenizer,
        settings={
            "type": "text",
            "backbone": {**config.to_diff_dict(), "model_type": config.model_type},
            "pooling": wish.pooling or _pooling(name),
            "memory": wish.memory,
        },
        dim=int(config.hidden_size),
        max_length=longest,
        query_prompt=wish.query_prompt
        if wish.query_prompt is not None
        else prompts.get("query", ""),
        document_prompt=(
            wish.document_prompt
            if wish.document_prompt is not None
            else prompts.get("document", prompts.get("passage", ""))
        ),
    )


def _pooling(name: str) -> str:
    """How a sentence-transformers folder pools; the mean elsewhere.

    Raises:
        ConfigError: When it is in a way that the model does not have.
    """
    facts = _json(name, "1_Pooling/config.json")
    modes = [
        key for key, value in facts.items() if key.startswith("pooling_mode") and value is True
    ]
    modes = modes or [f"pooling_mode_{facts.get('pooling_mode', 'mean')}"]
    if len(modes) > 1 or modes[0] not in _POOLING:
        raise ConfigError(
            f"{name} pools with {', '.join(modes)}; known: {', '.join(_POOLING)}. "
            "Choose one with text.pooling=mean, cls or last."
        )
    return _POOLING[modes[0]]


def _sentence_transformers(name: str) -> tuple[dict[str, str], int]:
    """Prompts and tokens read, as a sentence-transformers folder states them."""
    prompts = _json(name, "config_sentence_transformers.json").get("prompts") or {}
    longest = _json(name, "sentence_bert_config.json").get("max_seq_length")
    return dict(prompts), int(longest or sys.maxsize)


def _json(name: str, file: str) -> dict[str, Any]:
    path = cached_file(
        name,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""Loading a pretrained text encoder and its tokenizer, used as their folder says."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from tokenizers import normalizers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from hf_genret.encoder_folder import check_widths, read_encoder_folder
from hf_genret.errors import ConfigError, DataWarning
from hf_genret.modeling.encoders_genret import without_dtype

if TYPE_CHECKING:
    from hf_genret.training.recipes import TextSettings

_SAMPLED = 256  # tokens of a text, where a glance is enough


@dataclass
class TextBackbone:
    """A pretrained encoder and how it wants to be used.

    Attributes:
        model: The encoder with its weights.
        tokenizer: Its tokenizer.
        settings: The `query_encoder` entry of a `GenRetConfig`.
        dense: Weights of the layers after the pooling, in order.
        dim: Width of its vectors.
        max_length: Tokens it can read.
        query_prompt: Put before queries.
        document_prompt: Put before documents.
        similarity: What its vectors are compared by, as far as it is not the cosine.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: dict[str, Any]
    dense: list[dict[str, Tensor]]
    dim: int
    max_length: int
    query_prompt: str
    document_prompt: str
    similarity: str | None


def load_backbone(name: str, wish: TextSettings) -> TextBackbone:
    """Load a text encoder from a folder or the Hub.

    Pooling, dense layers, prompts and lower case are read from a sentence-transformers folder
    where there is one; pooling and prompts of the recipe go before.

    Args:
        name: Folder or Hub name.
        wish: The recipe's settings.

    Raises:
        ConfigError: When nothing can be loaded there, the encoder needs code of its own, or its
            folder asks for something that the model cannot have.
    """
    folder = read_encoder_folder(name)
    model = _load_model(name, folder.transformer)
    config = model.config
    tokenizer = _load_tokenizer(name, folder.transformer)
    check_vocabulary(tokenizer, model, name)
    if folder.lower_case:
        tokenizer = in_lower_case(tokenizer)
    settings: dict[str, Any] = {
        "type": "text",
        "backbone": {**without_dtype(config.to_diff_dict()), "model_type": config.model_type},
        "pooling": wish.pooling or folder.pooling(),
        "memory": wish.memory,
    }
    if folder.dense:
        settings["dense"] = [layer.settings for layer in folder.dense]
    # Some positions are reserved in some architectures, which only the tokenizer knows.
    longest = min(
        folder.max_length,
        int(getattr(config, "max_position_embeddings", 512) or 512),
        int(tokenizer.model_max_length),
    )
    query, document = wish.query_prompt, wish.document_prompt
    return TextBackbone(
        model=model,
        tokenizer=tokenizer,
        settings=settings,
        dense=[layer.weights for layer in folder.dense],
        dim=check_widths(folder, int(config.hidden_size)),
        max_length=longest,
        query_prompt=folder.prompt("query") if query is None else query,
        document_prompt=(
            folder.prompt("document", "passage", "corpus") if document is None else document
        ),
        similarity=folder.similarity,
    )


def _load_model(name: str, subfolder: str) -> PreTrainedModel:
    try:
        # Said outright, so that nobody is asked at a terminal.
        where: dict[str, Any] = {"subfolder": subfolder, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(name, **where)
        if getattr(config, "is_encoder_decoder", False):
            raise ConfigError(f"{name} is an encoder-decoder model; a text encoder was expected.")
        if getattr(config, "quantization_config", None):
            raise ConfigError(f"{name} is quantized; a text encoder of full weights was expected.")
        model: PreTrainedModel = AutoModel.from_pretrained(name, dtype=torch.float32, **where)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise ConfigError(
                f"The encoder {name} needs code of its own (trust_remote_code), which cannot "
                "travel with a checkpoint; choose an encoder that transformers knows."
            ) from error
        raise ConfigError(
            f"No text encoder could be loaded from {name}: {_first_line(error)}"
        ) from error
    return model


def _load_tokenizer(name: str, subfolder: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, subfolder=subfolder, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise ConfigError(
            f"No tokenizer could be loaded from {name}: {_first_line(error)}"
        ) from error
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, name: str) -> None:
    """Refuse a tokenizer that is not there or not the encoder's.

    transformers makes one without a word up where a folder has none.

    Raises:
        ConfigError: When it knows no words, or more than the encoder has vectors for.
    """
    vocabulary = tokenizer.get_vocab()
    if not vocabulary.keys() - set(tokenizer.all_special_tokens):
        raise ConfigError(
            f"{name}: expected the encoder's tokenizer (tokenizer.json), found one without words."
        )
    try:
        rows = len(model.get_input_embeddings().weight)
    except (NotImplementedError, AttributeError):  # letters that are hashed, no table of words
        return
    if max(vocabulary.values()) >= rows:
        raise ConfigError(
            f"{name}: the tokenizer has numbers up to {max(vocabulary.values())}, the encoder "
            f"vectors for {rows} words; they do not belong together."
        )


def check_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], name: str) -> None:
    """Say when a tokenizer makes unknown words of most of a corpus, before hours of training.

    Args:
        tokenizer: The encoder's.
        texts: Some of the corpus.
        name: What is said names it.
    """
    some = [text for text in texts if text.strip()]
    if not some:
        return
    read = tokenizer(some, add_special_tokens=False, truncation=True, max_length=_SAMPLED)
    tokens = [token for row in read["input_ids"] for token in row]
    unknown = sum(token == tokenizer.unk_token_id for token in tokens)
    if unknown > len(tokens) / 2 or not tokens:
        share = unknown / len(tokens) if tokens else 1
        warnings.warn(
            f"{name}: {share:.0%} of this corpus is unknown to the tokenizer, so texts can hardly "
            "be told apart; choose an encoder of the corpus' language.",
            DataWarning,
            stacklevel=2,
        )


def in_lower_case(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer that lowers letters before it does anything else, also when it is loaded again.

    Raises:
        ConfigError: When it is not one of the tokenizers library.
    """
    if not tokenizer.is_fast:
        raise ConfigError("do_lower_case needs a tokenizer of the tokenizers library.")
    backend = tokenizer.backend_tokenizer
    before = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    # Some architectures' own classes make their normalizer anew; this one keeps what it is given.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

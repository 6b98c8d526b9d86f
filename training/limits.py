"""What numbers of a recipe can be, and whether this machine has the memory for a model."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.sizes import count_numbers

_AT_LEAST: dict[str, float] = {
    "vocab_size": 3,
    **dict.fromkeys(
        (
            *("levels", "dim", "layers", "heads", "max_length", "max_query_length"),
            *("max_document_length", "repeat_train", "dev_limit", "beams", "max_documents"),
            *("batch_size", "evaluations", "keep", "iterations", "alpha", "decoder_layers"),
        ),
        1,
    ),
    **dict.fromkeys(("documents_per_leaf", "shrink", "temperature", "contrast_temperature"), 1e-9),
    **dict.fromkeys(("epsilon", "ranker_scale", "head_scale"), 1e-12),
}
_AT_MOST: dict[str, float] = {
    **dict.fromkeys(("layers", "decoder_layers", "rounds", "repeat_train", "levels"), 1000),
    **dict.fromkeys(("pseudo", "random", "hard", "sibling", "shared"), 100_000),
    "vocab_size": 1_000_000,
    **dict.fromkeys(("dev_share", "share", "warmup", "label_smoothing", "momentum"), 1),
    **dict.fromkeys(("dropout", "feature_dropout", "decoder_dropout", "indexer_dropout"), 0.99),
}
_LARGEST = 10**9
_BYTES = 16  # of a number in training: weight, gradient, and two of AdamW


def check_number(name: str, value: float) -> None:
    """Refuse a number that no setting of this name can be; none is negative.

    Raises:
        ConfigError: Naming the setting and what was expected.
    """
    last = name.rpartition(".")[-1]
    low, high = _AT_LEAST.get(last, 0), _AT_MOST.get(last, _LARGEST)
    if not math.isfinite(value) or not low <= value <= high:
        shown = value if abs(value) < 10**15 else f"{value:.3g}"
        raise ConfigError(f"{name} is {shown}; a number from {low:,} to {high:,} was expected.")


def made(config: GenRetConfig) -> GenRetModel:
    """A fresh model, when there is the memory to train it.

    Raises:
        ConfigError: When the settings contradict each other, or describe a model that is larger
            than this machine.
    """
    try:
        numbers = count_numbers(config)
    except Exception as error:  # whatever values of other types make a constructor raise
        raise ConfigError(" ".join(str(error).split())[:300]) from error
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if numbers * _BYTES > room:
        raise ConfigError(
            f"the settings describe a model of {numbers:,} numbers; training it takes more than "
            f"the {room / 2**30:.0f} GB of memory here. Smaller codebooks or widths take less."
        )
    with memory_named():
        return GenRetModel(config)


@contextmanager
def memory_named() -> Iterator[None]:
    """Say in one sentence that settings need more memory than there is.

    Raises:
        ConfigError: In the place of what Python, NumPy or torch says.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        reason = " ".join(str(error).split())[:200] or "no more could be had"
        raise ConfigError(f"these settings need more memory than there is ({reason}).") from error
    except RuntimeError as error:
        if not re.search("can't allocate memory|out of memory", str(error)):
            raise
        wanted = re.search(r"tried to allocate (\d+) bytes", str(error))
        amount = f"{int(wanted[1]) / 2**30:,.0f} GB at once" if wanted else "too much"
        raise ConfigError(f"these settings need more memory than there is ({amount}).") from error

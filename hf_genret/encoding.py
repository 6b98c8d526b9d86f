"""From text and histories to the model's inputs: token ids cached once, batches cut from them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_genret.data.schema import Documents, FullTexts, Queries
from hf_genret.modeling import EncoderOutput, GenRetModel

Batch = dict[str, Tensor]
# A tokenizer keeps the length it cuts texts to in itself: two threads would change it in turn.
_TOKENIZING = threading.Lock()
_CHUNK = 2000  # texts tokenized together
_LONGEST_TEXT = 20_000  # characters read of a text; far more than any encoder keeps
_HISTORY_LIMIT = 200  # items of a history that a user encoder reads


class TokenTable:
    """Token ids of many texts in one flat array.

    Attributes:
        ids: int32 [tokens], all texts one after another.
        starts: int64 [texts + 1].
    """

    def __init__(self, ids: np.ndarray, starts: np.ndarray, pad: int) -> None:
        self.ids, self.starts, self.pad = ids, starts, pad

    @classmethod
    def from_texts(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        texts: Collection[str],
        max_length: int,
        prompt: str = "",
    ) -> TokenTable:
        """Tokenize texts, each cut to `max_length` tokens; one warning when a text was cut unread.

        Args:
            tokenizer: The model's processing class.
            texts: Any number of texts.
            max_length: Tokens kept a text, at least 1.
            prompt: Put before every text.
        """
        lengths: list[np.ndarray] = []
        parts: list[np.ndarray] = []
        steps = -(-len(texts) // _CHUNK)
        rest, longest = iter(texts), 0
        for _ in tqdm(range(steps), desc="Tokenizing", disable=steps < 3, leave=False):
            chunk = list(islice(rest, _CHUNK))
            longest = max(longest, *map(len, chunk))
            with _TOKENIZING:
                encoded = tokenizer(
                    [prompt + text[:_LONGEST_TEXT] for text in chunk],
                    truncation=True,
                    max_length=max_length,
                    return_attention_mask=False,
                )["input_ids"]
            lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
            parts.append(np.fromiter(chain.from_iterable(encoded), np.int32))
        if longest > _LONGEST_TEXT:
            warnings.warn(
                f"A text of more than {_LONGEST_TEXT:,} characters was cut to {max_length} tokens.",
                stacklevel=2,
            )
        starts = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
        ids = np.concatenate([np.empty(0, np.int32), *parts])
        return cls(ids, starts, int(tokenizer.pad_token_id or 0))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 [texts]."""
        return np.diff(self.starts)

    def batch(self, numbers: np.ndarray) -> Batch:
        """`input_ids` and `attention_mask` [B, T] of the given texts, padded on the right."""
        lengths = self.starts[numbers + 1] - self.starts[numbers]
        width = max(int(lengths.max()), 1)
        column = np.arange(width)
        mask = column[None, :] < lengths[:, None]
        place = np.where(mask, self.starts[numbers][:, None] + column, 0)
        ids = self.ids[place] if len(self.ids) else np.zeros(mask.shape, np.int32)
        padded = np.where(mask, ids, self.pad).astype(np.int64)
        return {
            "input_ids": torch.from_numpy(padded),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }


class ItemSource:
    """Documents as the item encoder reads them: tokens, catalogue rows, or vectors from before.

    Args:
        model: Says which of them its item encoder reads.
        documents: The corpus.
        tokenizer: Needed when the encoder reads text.
    """

    def __init__(
        self,
        model: GenRetModel,
        documents: Documents,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> None:
        self.size, self.documents = len(documents), documents
        self.tokens: TokenTable | None = None
        self.vectors: Tensor | None = None
        if getattr(model.encoder.item_side, "inputs", None) == "text":
            if tokenizer is None:
                raise ValueError("This model reads text; give its tokenizer as processing_class.")
            config = model.config
            self.tokens = TokenTable.from_texts(
                tokenizer,
                FullTexts(documents),
                config.max_document_length,
                config.document_prompt,
            )

    def __len__(self) -> int:
        return self.size

    def lengths(self) -> np.ndarray:
        """Cost of encoding each document, for batches of similar length."""
        if self.tokens is None or self.vectors is not None:
            return np.ones(self.size, dtype=np.int64)
        return self.tokens.lengths

    def batch(self, rows: np.ndarray) -> Batch:
        """Arguments of `GenRetModel.encode_items` for the given rows."""
        if self.vectors is not None:
            return {"item_vectors": self.vectors[torch.from_numpy(rows)]}
        if self.tokens is not None:
            return self.tokens.batch(rows)
        return {"items": torch.from_numpy(rows)}


class QuerySource:
    """Queries as the query encoder reads them: tokens, histories, users, or earlier vectors.

    Args:
        model: Says which of them its encoders read.
        queries: The queries of a split.
        tokenizer: Needed when queries have text that the model reads.

    Raises:
        ValueError: When the queries carry nothing that this model reads.
    """

    def __init__(
        self,
        model: GenRetModel,
        queries: Queries,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> None:
        self.queries = queries
        self.tokens: TokenTable | None = None
        self.vectors: Tensor | None = None
        config = model.config
        if model.encoder.query is not None and queries.texts is not None:
            if tokenizer is None:
                raise ValueError("This model reads text; give its tokenizer as processing_class.")
            self.tokens = TokenTable.from_texts(
                tokenizer, queries.texts, config.max_query_length, config.query_prompt
            )
        history = model.encoder.history
        self.histories = queries.histories if history is not None else None
        self.users = queries.users if history is not None else None
        self.max_history = min(getattr(history, "max_length", 0), _HISTORY_LIMIT)
        if self.tokens is None and self.histories is None:
            raise ValueError(
                "These queries carry neither text nor histories that this model reads."
            )

    def __len__(self) -> int:
        return len(self.queries)

    def lengths(self) -> np.ndarray:
        """Cost of encoding each query, for batches of similar length."""
        total = np.ones(len(self), dtype=np.int64)
        if self.tokens is not None and self.vectors is None:
            total += self.tokens.lengths
        if self.histories is not None:
            total += np.minimum([len(history) for history in self.histories], self.max_history)
        return total

    def batch(self, numbers: np.ndarray) -> Batch:
        """Arguments of `GenRetModel.encode_query` for the given queries."""
        out: Batch = {}
        if self.vectors is not None:
            out["query_vectors"] = self.vectors[torch.from_numpy(numbers)]
        elif self.tokens is not None:
            out.update(self.tokens.batch(numbers))
        if self.histories is not None:
            chosen = [self.histories[i][-self.max_history :] for i in numbers]
            out["history"] = pad_histories(chosen)
            if self.users is not None:
                out["users"] = torch.from_numpy(self.users[numbers].astype(np.int64))
        return out


def pad_histories(histories: Sequence[np.ndarray | Sequence[int]]) -> Tensor:
    """Histories as one tensor [B, H], -1 on the left of shorter ones; H is at least 1."""
    width = max(1, max((len(history) for history in histories), default=1))
    out = np.full((len(histories), width), -1, dtype=np.int64)
    for number, history in enumerate(histories):
        if len(history):
            out[number, width - len(history) :] = history
    return torch.from_numpy(out)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move every tensor of a batch."""
    return {name: value.to(device) for name, value in batch.items()}


def batches(source: ItemSource | QuerySource, batch_size: int) -> Iterator[np.ndarray]:
    """Numbers 0..n-1 in batches of similar length, longest first (memory trouble shows at once)."""
    order = np.argsort(-source.lengths(), kind="stable").astype(np.int64)
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]


def encode(
    model: GenRetModel,
    source: ItemSource | QuerySource,
    *,
    batch_size: int = 256,
    description: str = "Encoding",
) -> Iterator[tuple[np.ndarray, EncoderOutput]]:
    """Encode a whole source without gradients, in batches of similar length.

    Yields:
        The numbers of a batch and what the encoder emitted for them.
    """
    side: Any = model.encode_items if isinstance(source, ItemSource) else model.encode_query
    training = model.training
    model.eval()
    heavy = source.vectors is None and len(source) > 20 * batch_size
    steps = (len(source) + batch_size - 1) // batch_size
    try:
        with torch.no_grad():
            for numbers in tqdm(
                batches(source, batch_size),
                desc=description,
                total=steps,
                disable=not heavy,
                leave=False,
            ):
                yield numbers, side(**to_device(source.batch(numbers), model.device))
    finally:
        model.train(training)


def pooled_vectors(
    model: GenRetModel, source: ItemSource | QuerySource, *, batch_size: int = 256
) -> Tensor:
    """The ranker's vectors of a whole source, [n, D] on the CPU."""
    out = torch.zeros(len(source), model.config.vector_dim)
    for numbers, encoded in encode(model, source, batch_size=batch_size):
        out[torch.from_numpy(numbers)] = encoded.pooler_output.float().cpu()
    return out


def backbone_vectors(
    model: GenRetModel,
    source: ItemSource | QuerySource,
    *,
    batch_size: int = 64,
    numbers: np.ndarray | None = None,
) -> Tensor:
    """What the text encoder alone emits, before adapters and normalisation: [n, D] on the CPU.

    A frozen encoder is run once over each text with it; its vectors then stand in
    `source.vectors` and every later step reads those.

    Args:
        model: Its text encoder is run.
        source: Texts.
        batch_size: Texts encoded at once.
        numbers: The texts wanted, ascending; all by default.

    Returns:
        A row for each text wanted.

    Raises:
        ValueError: When the source has no text.
    """
    if source.tokens is None:
        raise ValueError("Only text can be encoded once and for all.")
    encoder: Any = (
        model.encoder.item_side if isinstance(source, ItemSource) else model.encoder.query
    )
    wanted = np.arange(len(source)) if numbers is None else numbers
    out = torch.zeros(len(wanted), encoder.dim)
    training = encoder.training
    encoder.eval()
    longest_first = np.argsort(-source.lengths()[wanted], kind="stable")
    order = [longest_first[n : n + batch_size] for n in range(0, len(wanted), batch_size)]
    with torch.no_grad():
        for places in tqdm(order, desc="Encoding text", disable=len(order) < 20, leave=False):
            inputs = to_device(source.tokens.batch(wanted[places]), model.device)
            out[torch.from_numpy(places)] = encoder(**inputs).pooler_output.float().cpu()
    encoder.train(training)
    return out

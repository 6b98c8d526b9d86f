"""Tiny models, and references that share no code with the rooms they check."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from hf_genret.modeling import GenRetConfig, GenRetModel

DIM = 16
VOCABULARY = 60
BERT = {
    "model_type": "bert",
    "hidden_size": DIM,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 32,
}


class DictTrie:
    """The trie as nested dictionaries; a leaf is the list of its documents, in order of arrival."""

    def __init__(self, codes: Iterable[Sequence[int]], rows: Iterable[int] | None = None) -> None:
        self.root: dict[int, Any] = {}
        paths = [tuple(int(c) for c in path) for path in codes]
        for path, row in zip(paths, range(len(paths)) if rows is None else rows, strict=True):
            node = self.root
            for code in path[:-1]:
                node = node.setdefault(code, {})
            node.setdefault(path[-1], []).append(int(row))
        self.depth = len(paths[0])

    def node(self, prefix: Sequence[int]) -> Any:
        """The dictionary (or documents) at a prefix; None where there is none."""
        node: Any = self.root
        for code in prefix:
            if not isinstance(node, dict) or code not in node:
                return None
            node = node[code]
        return node

    def prefixes(self, length: int) -> list[tuple[int, ...]]:
        """Every prefix of a length, in lexicographic order."""
        found = [()]
        for _ in range(length):
            found = [(*p, code) for p in found for code in sorted(self.node(p))]
        return found


def build_model(**changes: Any) -> GenRetModel:
    """A model of 16 dimensions with random weights and centres, in evaluation mode."""
    settings: dict[str, Any] = {
        "query_encoder": {"type": "bag", "vocab_size": VOCABULARY, "dim": DIM},
        "vector_dim": DIM,
        "codebook_sizes": [4, 3, 5],
        "decoder_dim": DIM,
        "decoder_layers": 2,
        "decoder_heads": 2,
        "search_beams": 6,
    }
    settings.update(changes)
    torch.manual_seed(3)
    model = GenRetModel(GenRetConfig(**settings)).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.normal_(std=0.3)
        for parameter in model.heads.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
        for embedding in (getattr(model.encoder.query, "embedding", None),):
            if embedding is not None:
                embedding.weight.normal_()
    return model


def indexed_model(documents: int = 30, **changes: Any) -> GenRetModel:
    """The same with random ids and random unit vectors for `documents` documents."""
    model = build_model(**changes)
    columns = [torch.randint(0, size, (documents,)) for size in model.config.codebook_sizes]
    vectors = torch.nn.functional.normalize(torch.randn(documents, model.config.vector_dim), dim=-1)
    model.set_index(torch.stack(columns, 1), vectors=vectors)
    return model


def brute_force(model: GenRetModel, **inputs: Any) -> dict[tuple[int, ...], Tensor]:
    """log P of every id of the index, each computed alone by forward() on the whole id."""
    ids = sorted({tuple(path) for path in model.index.paths.tolist()})
    scores = {}
    for path in ids:
        tokens = [code + o for code, o in zip(path, model.config.level_offsets, strict=True)]
        batch = len(next(iter(inputs.values())))
        decoder = torch.tensor([[0, *tokens[:-1]]]).expand(batch, -1)
        with torch.no_grad():
            logits = model(decoder_input_ids=decoder, **inputs).logits
        steps = logits.log_softmax(-1)
        scores[path] = sum(steps[:, level, token] for level, token in enumerate(tokens))
    return scores


def python_beam(
    model: GenRetModel, width: int, **inputs: Any
) -> list[list[tuple[tuple[int, ...], float]]]:
    """Beam search over nested dictionaries, one prefix at a time through forward()."""
    trie, offsets = DictTrie(model.index.paths.tolist()), model.config.level_offsets
    out = []
    for row in range(len(next(iter(inputs.values())))):
        query = {name: value[row : row + 1] for name, value in inputs.items()}
        beam: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        for offset in offsets:
            longer = []
            for prefix, score in beam:
                tokens = [0, *(code + o for code, o in zip(prefix, offsets, strict=False))]
                with torch.no_grad():
                    logits = model(decoder_input_ids=torch.tensor([tokens]), **query).logits
                step = logits[0, -1].log_softmax(-1)
                longer += [
                    ((*prefix, code), score + float(step[code + offset]))
                    for code in trie.node(prefix)
                ]
            beam = sorted(longer, key=lambda pair: -pair[1])[:width]
        out.append(beam)
    return out


def best_ids(scores: dict[tuple[int, ...], Tensor], row: int, n: int) -> list[tuple[int, ...]]:
    """The n best ids of one query, best first."""
    return sorted(scores, key=lambda path: -float(scores[path][row]))[:n]


def all_ids(sizes: Sequence[int]) -> Tensor:
    """Every id that the codebooks can spell."""
    return torch.tensor(list(itertools.product(*(range(size) for size in sizes))))


@pytest.fixture
def make_model() -> Callable[..., GenRetModel]:
    """`build_model`."""
    return build_model


@pytest.fixture
def make_indexed() -> Callable[..., GenRetModel]:
    """`indexed_model`."""
    return indexed_model


@pytest.fixture
def dict_trie() -> type[DictTrie]:
    """`DictTrie`."""
    return DictTrie


@pytest.fixture
def exhaustive() -> Callable[..., dict[tuple[int, ...], Tensor]]:
    """`brute_force`."""
    return brute_force


@pytest.fixture
def best() -> Callable[..., list[tuple[int, ...]]]:
    """`best_ids`."""
    return best_ids


@pytest.fixture
def plain_beam() -> Callable[..., list[list[tuple[tuple[int, ...], float]]]]:
    """`python_beam`."""
    return python_beam


@pytest.fixture
def every_id() -> Callable[[Sequence[int]], Tensor]:
    """`all_ids`."""
    return all_ids


@pytest.fixture
def text() -> dict[str, Tensor]:
    """Three queries of different lengths."""
    ids = torch.randint(1, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    mask[2, 3:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.fixture
def bert() -> dict[str, Any]:
    """Configuration of a one-layer BERT."""
    return dict(BERT)

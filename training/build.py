"""From a recipe and data to a model that is ready to train: encoder, sizes, training pairs."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from hf_genret.checkpoints import load_documents, load_model, load_tokenizer, locate
from hf_genret.data import Documents, Queries, RetrievalData, pseudo_queries
from hf_genret.data.repeats import leaves_history_out
from hf_genret.encoding import ItemSource, QuerySource
from hf_genret.errors import CheckpointError, ConfigError, DataError, DataWarning
from hf_genret.evaluation.own_documents import own_documents
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.same_texts import other_texts
from hf_genret.training.bag import BagStart, bag_start, train_tokenizer
from hf_genret.training.batches import TrainingData
from hf_genret.training.given import SEVERAL, ids_from_data
from hf_genret.training.limits import made, memory_named
from hf_genret.training.lora import add_lora
from hf_genret.training.recipes import Recipe
from hf_genret.training.text_encoder import check_texts, load_backbone

logger = logging.getLogger(__name__)
_SAMPLED = 100  # documents that a tokenizer is tried on
_FEWEST = 3  # below that there is nothing to decompose, nor to search


@dataclass
class Start:
    """What training begins with.

    Attributes:
        model: Fresh decoder and heads on an encoder that may be pretrained.
        tokenizer: None when nothing is read as text.
        data: Training pairs and dev queries.
        dev: The dev queries that training looks at.
    """

    model: GenRetModel
    tokenizer: PreTrainedTokenizerBase | None
    data: TrainingData
    dev: Queries | None


def build(recipe: Recipe, data: RetrievalData, *, seed: int) -> Start:
    """Build model and training data.

    Args:
        recipe: What to build; stages that would train a frozen encoder are changed in place.
        data: Corpus and queries.
        seed: Of pseudo-queries and fresh weights.

    Raises:
        ConfigError: When recipe and data do not fit together.
        DataError: When there is nothing to train on.
    """
    with memory_named():
        return _built(recipe, data, seed)


def _built(recipe: Recipe, data: RetrievalData, seed: int) -> Start:
    """`build`, with memory enough."""
    if len(data.documents) < _FEWEST:
        raise DataError(f"{data.name} has {len(data.documents)} documents; {_FEWEST} are needed.")
    torch.manual_seed(seed)
    builders = {"text": _build_text, "sequential": _build_items, "general": _build_items}
    if recipe.task not in builders:
        raise ConfigError(f"task is '{recipe.task}'; known: {', '.join(builders)}.")
    whole = bool(recipe.lora.r) and recipe.lora.part == "model"
    known = _known_ids(recipe, data.documents, whole)
    train, dev = training_queries(recipe, data, seed)
    model, tokenizer = builders[recipe.task](recipe, data, train, seed)
    if recipe.task == "text" and model.encoder.history is not None:
        nn.init.zeros_(model.encoder.history.norm.weight)  # at first as if nothing had been read
    if recipe.start_from:
        take_over(model, tokenizer, data.documents, recipe.start_from, whole=whole)
    if recipe.lora.r:
        add_lora(model, recipe.lora)
    items = ItemSource(model, data.documents, tokenizer)
    if dev is not None:
        rng = np.random.default_rng(seed)
        dev = dev.take(np.sort(rng.permutation(len(dev))[: recipe.queries.dev_limit]))
    pair_query, pair_row = train.pairs()
    training = TrainingData(
        items=items,
        train=QuerySource(model, train, tokenizer),
        dev=None if dev is None else QuerySource(model, dev, tokenizer),
        pair_query=pair_query,
        pair_row=pair_row,
        exclude_history=recipe.task != "text"
        and leaves_history_out(data.splits, recipe.search.exclude_history),
        dev_own=None if dev is None else own_documents(dev, data.documents),
        given=None if known is None else torch.from_numpy(known.astype(np.int64)),
        position_code=bool(recipe.position_code) and known is None,
    )
    return Start(model, tokenizer, training, dev)


def _known_ids(recipe: Recipe, documents: Documents, whole: bool) -> np.ndarray | None:
    """Ids that are known before there is a model, [N, L]; the recipe gets the sizes that ids need.

    Args:
        recipe: Its `model.codebook_sizes` are set where ids, a checkpoint or a position code
            decide them.
        documents: The corpus.
        whole: Whether a checkpoint is adapted as a whole.
    """
    known = ids_from_data(recipe.ids, documents, position_code=recipe.position_code > 0)
    if known is not None:
        recipe.model["codebook_sizes"] = known[1]
        return known[0]
    if whole and not recipe.model.get("codebook_sizes"):
        recipe.model["codebook_sizes"] = _sizes_of(recipe.start_from)
    elif recipe.position_code:
        sizes = codebook_sizes(recipe, len(documents))
        recipe.model["codebook_sizes"] = [*sizes, recipe.position_code]
    return None


def training_queries(
    recipe: Recipe, data: RetrievalData, seed: int
) -> tuple[Queries, Queries | None]:
    """The data's own training queries, pseudo-queries, or both; and dev queries.

    Without a dev split the pseudo-queries of a random share of the documents stand in for it.
    """
    parts: list[Queries] = []
    own = data.splits.get("train")
    reads_text = recipe.task == "text"
    if own is not None and len(own) and recipe.queries.use_train:
        if reads_text and own.texts is None:
            raise ConfigError(
                f"Recipe '{recipe.name}' reads query texts; {data.name} has histories. "
                "Use uri-sequential or uri-general."
            )
        parts.extend([own] * recipe.queries.repeat_train)
    dev = data.splits.get("dev")
    if dev is not None and (not len(dev) or (reads_text and dev.texts is None)):
        dev = None
    if reads_text and recipe.queries.pseudo:
        made = pseudo_queries(
            data.documents,
            per_document=recipe.queries.pseudo,
            kinds=recipe.queries.kinds,
            seed=seed,
        )
        if dev is None:
            rng = np.random.default_rng(seed)
            held = set(
                np.flatnonzero(rng.random(len(data.documents)) < recipe.queries.dev_share).tolist()
            )
            where = np.asarray([next(iter(gains)) in held for gains in made.relevant])
            dev, made = made.take(np.flatnonzero(where)), made.take(np.flatnonzero(~where))
            dev = dev if len(dev) else None
        parts.append(made)
    if not parts:
        raise DataError(f"{data.name} has no training queries and the recipe makes none.")
    return _join(parts), dev


def _join(parts: list[Queries]) -> Queries:
    if len(parts) == 1:
        return parts[0]
    none = np.empty(0, dtype=np.int64)
    histories = [rows for part in parts for rows in part.histories or [none] * len(part)]
    return Queries(
        ids=[name for part in parts for name in part.ids],
        relevant=[gains for part in parts for gains in part.relevant],
        texts=[text for part in parts for text in part.texts or [""] * len(part)],
        histories=histories if any(part.histories is not None for part in parts) else None,
    )


def _beside_text(recipe: Recipe, train: Queries, dim: int) -> dict[str, Any] | None:
    """Settings of what reads the histories of text queries; None where there are none."""
    if train.histories is None or not recipe.queries.history:
        return None
    wish = recipe.items
    return {
        "type": "sequence",
        "dim": dim,
        "layers": wish.layers,
        "heads": math.gcd(wish.heads, dim),
        "max_length": wish.max_length,
        "dropout": wish.dropout,
    }


def ids_each(recipe: Recipe) -> int:
    """Ids of a document: what the recipe says, one where its ids are of a kind that gives one."""
    wish = int(recipe.model.get("ids_per_document", 1))
    return wish if recipe.ids.partition(":")[0] in SEVERAL else 1


def in_trees(recipe: Recipe) -> bool:
    """Whether the first code of an id is the number of a tree."""
    return recipe.ids.partition(":")[0] == "forest"


def codebook_sizes(recipe: Recipe, documents: int) -> list[int]:
    """The recipe's sizes, or K_1, K_1 / shrink, ... for the wished number of documents a leaf.

    Those of a forest begin with the number of its trees, each of which holds every document.
    """
    given = recipe.model.get("codebook_sizes")
    if given:
        return [int(size) for size in given]
    if recipe.levels < 1 or recipe.documents_per_leaf <= 0 or recipe.shrink <= 0:
        raise ConfigError("levels must be at least 1, documents_per_leaf and shrink above 0.")
    trees = in_trees(recipe)
    paths = documents * (1 if trees else ids_each(recipe))
    leaves = max(paths / recipe.documents_per_leaf, 2.0)
    middle = (recipe.levels - 1) / 2  # where a level has the geometric mean of all sizes
    mean = leaves ** (1 / recipe.levels)
    sizes = [
        max(2, round(mean * recipe.shrink ** (middle - level))) for level in range(recipe.levels)
    ]
    return [ids_each(recipe), *sizes] if trees else sizes


def search_beams(recipe: Recipe, sizes: list[int], documents: int) -> int:
    """Leaves to visit so that no more documents are ranked than the recipe allows."""
    wish = recipe.search.beams or recipe.model.get("search_beams")
    if wish:
        return int(wish)
    leaves = math.prod(sizes)
    paths = documents * (sizes[0] if in_trees(recipe) else ids_each(recipe))
    fullest = -(-paths // min(leaves, paths))
    return max(1, min(leaves, int(documents_allowed(recipe, documents) / fullest)))


def documents_allowed(recipe: Recipe, documents: int) -> float:
    """How many of the documents may be ranked for a query, where leaves are not counted."""
    return min(recipe.search.share * documents, recipe.search.max_documents)


def take_over(
    model: GenRetModel,
    tokenizer: PreTrainedTokenizerBase | None,
    documents: Documents,
    checkpoint: str,
    *,
    whole: bool = False,
) -> None:
    """Put the encoder and ranker of a checkpoint into a fresh model.

    Args:
        model: With the same encoder, by its settings.
        tokenizer: What the model reads text with.
        documents: What it knows by number, where it reads no text.
        checkpoint: Folder or Hub name.
        whole: Take its decoder, heads and indexer too.

    Raises:
        CheckpointError: When there is no checkpoint, or its encoder (or decoder) is another one.
    """
    folder = locate(checkpoint)
    other = load_model(folder, None, "cpu")
    parts = ("encoder.", "ranker.", *(("decoder.", "heads.", "indexer.") if whole else ()))
    known = {name: value for name, value in other.state_dict().items() if name.startswith(parts)}
    own = {name: value for name, value in model.state_dict().items() if name.startswith(parts)}
    unlike = {name for name in known.keys() & own.keys() if known[name].shape != own[name].shape}
    wrong = sorted((known.keys() ^ own.keys()) | unlike)
    # Numbers of subwords and of items mean nothing to a model that counted others.
    if not wrong and tokenizer is not None:
        words = load_tokenizer(folder, other)
        if words is None or words.get_vocab() != tokenizer.get_vocab():
            wrong = ["the tokenizer's words"]
    elif not wrong:
        store = load_documents(folder, other)
        if store.ids != documents.ids:
            wrong = ["the items"]
        elif changed := other_texts(store, documents):
            wrong = [f"the texts of {len(changed):,} items, the first is '{changed[0]}'"]
    if wrong:
        raise CheckpointError(
            f"{checkpoint}: another {'model' if whole else 'encoder'} than the recipe's; "
            f"they differ in {wrong[0]}."
        )
    model.load_state_dict(known, strict=False)


def _sizes_of(checkpoint: str) -> list[int]:
    """The codebook sizes of a checkpoint that is adapted as a whole.

    Raises:
        ConfigError: When none is named.
    """
    if not checkpoint:
        raise ConfigError("lora.part=model adapts a trained model: name it, start_from=CHECKPOINT.")
    sizes: list[int] = GenRetConfig.from_pretrained(str(locate(checkpoint))).codebook_sizes
    return sizes


def _config(recipe: Recipe, documents: int, **encoders: Any) -> GenRetConfig:
    sizes = codebook_sizes(recipe, documents)
    beams = search_beams(recipe, sizes, documents)
    settings = {**encoders, **recipe.model, "search_beams": beams, "codebook_sizes": sizes}
    settings["forest"] = in_trees(recipe)
    settings["ids_per_document"] = sizes[0] if in_trees(recipe) else ids_each(recipe)
    try:
        return GenRetConfig(**settings)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _build_text(
    recipe: Recipe, data: RetrievalData, train: Queries, seed: int
) -> tuple[GenRetModel, PreTrainedTokenizerBase]:
    if recipe.encoder == "bag":
        return _build_bag(recipe, data, train, seed)
    backbone = load_backbone(recipe.encoder, recipe.text)
    rows = np.linspace(0, len(data.documents) - 1, _SAMPLED).astype(int).tolist()
    sample = [data.documents.full_text(row) for row in rows]
    check_texts(backbone.tokenizer, sample, recipe.encoder)
    config = _config(
        recipe,
        len(data.documents),
        query_encoder=backbone.settings,
        history_encoder=_beside_text(recipe, train, backbone.dim),
        vector_dim=backbone.dim,
        normalize=True,
        query_prompt=backbone.query_prompt,
        document_prompt=backbone.document_prompt,
        max_query_length=min(recipe.text.max_query_length, backbone.max_length),
        max_document_length=min(recipe.text.max_document_length, backbone.max_length),
    )
    if backbone.similarity and config.normalize:
        warnings.warn(
            f"{recipe.encoder} compares vectors by {backbone.similarity}; here they get unit "
            "length (model.normalize=false keeps theirs).",
            DataWarning,
            stacklevel=2,
        )
    model = made(config)
    model.encoder.query.backbone = backbone.model
    for number, weights in enumerate(backbone.dense):
        model.encoder.query.dense[2 * number].load_state_dict(weights)
    if recipe.text.freeze and not recipe.lora.r:
        rest = [] if model.encoder.history is None else ["history"]
        for stage in recipe.stages:
            parts = [rest if part == "encoder" else [part] for part in stage.train]
            stage.train = [part for some in parts for part in some]
        recipe.stages = [stage for stage in recipe.stages if stage.train]
    return model, backbone.tokenizer


def _build_bag(
    recipe: Recipe, data: RetrievalData, train: Queries, seed: int
) -> tuple[GenRetModel, PreTrainedTokenizerBase]:
    texts = data.documents.full_texts()
    tokenizer = train_tokenizer(texts, vocab_size=recipe.bag.vocab_size, seed=seed)
    limit = recipe.text.max_document_length
    ids = tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
    start = _bag(ids, len(tokenizer), recipe.bag.dim, seed)
    config = _config(
        recipe,
        len(data.documents),
        query_encoder={
            "type": "bag",
            "vocab_size": len(tokenizer),
            "dim": start.embedding.shape[1],
            "average_length": start.average_length,
            "k1": start.k1,
            "b": start.b,
        },
        history_encoder=_beside_text(recipe, train, start.embedding.shape[1]),
        vector_dim=start.embedding.shape[1],
        normalize=True,
        max_query_length=recipe.text.max_query_length,
        max_document_length=recipe.text.max_document_length,
    )
    model = made(config)
    with torch.no_grad():
        model.encoder.query.embedding.weight.copy_(torch.from_numpy(start.embedding))
        model.encoder.query.idf.copy_(torch.from_numpy(start.idf))
    return model, tokenizer


def _bag(ids: list[list[int]], vocabulary: int, dim: int, seed: int) -> BagStart:
    """The decomposition of a corpus, no wider than the corpus allows."""
    return bag_start(
        ids, vocab_size=vocabulary, dim=min(dim, len(ids) - 1, vocabulary - 1), seed=seed
    )


def _build_items(
    recipe: Recipe, data: RetrievalData, train: Queries, seed: int
) -> tuple[GenRetModel, None]:
    if train.histories is None:
        raise ConfigError(
            f"Recipe '{recipe.name}' reads histories; {data.name} has query texts. Use uri."
        )
    wish = recipe.items
    features = text_features(data, wish.feature_dim, seed) if wish.feature_dim else None
    histories = {
        "sequential": {
            "type": "sequence",
            "layers": wish.layers,
            "heads": wish.heads,
            "max_length": wish.max_length,
        },
        "general": {"type": "user", "num_users": data.num_users},
    }
    config = _config(
        recipe,
        len(data.documents),
        item_encoder={
            "type": "items",
            "num_items": len(data.documents),
            "dim": wish.dim,
            "use_ids": wish.use_ids,
            "feature_dim": 0 if features is None else features.shape[1],
            "dropout": wish.feature_dropout,
        },
        history_encoder={**histories[recipe.task], "dim": wish.dim, "dropout": wish.dropout},
        vector_dim=wish.dim,
    )
    model = made(config)
    if features is not None:
        model.encoder.items.features.copy_(torch.from_numpy(features))
    return model, None


def text_features(data: RetrievalData, dim: int, seed: int) -> np.ndarray:
    """A vector of each item's text, float32 [N, dim]: a bag of subwords, reduced, unit variance."""
    texts = data.documents.full_texts()
    tokenizer = train_tokenizer(texts, seed=seed)
    ids = tokenizer(texts, truncation=True, max_length=128)["input_ids"]
    start = _bag(ids, len(tokenizer), dim, seed)
    out = np.zeros((len(texts), start.embedding.shape[1]), dtype=np.float32)
    for row, tokens in enumerate(ids):
        unique = np.unique(np.asarray(tokens, dtype=np.int64))
        if len(unique):
            out[row] = (start.idf[unique, None] * start.embedding[unique]).sum(0)
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    out /= np.maximum(norm, 1e-9)
    return out * np.float32(np.sqrt(out.shape[1]))

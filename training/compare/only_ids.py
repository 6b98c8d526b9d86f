"""Ids that no training changes, made for their quality alone: no decoder learns them."""

from __future__ import annotations

from pathlib import Path

from hf_genret.data import RetrievalData
from hf_genret.errors import ConfigError
from hf_genret.kept_vectors import kept_vectors
from hf_genret.modeling import GenRetModel
from hf_genret.training.build import build
from hf_genret.training.curriculum import RunState, Stage
from hf_genret.training.given import give_codes
from hf_genret.training.recipes import Recipe
from hf_genret.training.workshop import Workshop


def model_with_ids(
    data: RetrievalData, recipe: Recipe, *, seed: int, encodings: Path
) -> GenRetModel:
    """A model whose index has a recipe's given ids, as training would give them; the rest is fresh.

    Args:
        data: Corpus and queries.
        recipe: With the checkpoint from whose encoder's vectors ids are made.
        seed: Of the ids.
        encodings: Folder that keeps what a frozen encoder says of the texts.

    Raises:
        ConfigError: When the recipe trains an encoder first, hides documents, or gives a document
            several ids.
    """
    if not recipe.start_from:
        raise ConfigError("Ids by themselves need an encoder that is trained already.")
    if recipe.new_documents.share:
        raise ConfigError("Ids by themselves are those of all documents; new_documents hides some.")
    start = build(recipe, data, seed=seed)
    model, items = start.model, start.data.items
    if items.tokens is not None:
        items.vectors = kept_vectors(model, items, encodings)
    state = RunState.fresh(len(data.documents), model.config.num_levels)
    stage = Stage("ids", "cross_entropy", ["decoder"])  # which nobody trains
    codes = give_codes(Workshop(model, start.data, state, stage, seed), recipe.ids)
    if codes.dim() != 2:
        raise ConfigError(f"'{recipe.ids}' gives a document several ids; only training reads them.")
    model.set_index(codes)
    return model

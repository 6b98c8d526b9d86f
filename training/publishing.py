"""From a trained model to a checkpoint on the Hub, straight from the Trainer."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Trainer

from hf_genret.adapters import has_lora, merge_lora
from hf_genret.documents import data_facts
from hf_genret.encoding import pooled_vectors
from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetModel
from hf_genret.retriever import GenRetriever
from hf_genret.training.arguments import GenRetTrainingArguments
from hf_genret.training.batches import TrainingData
from hf_genret.training.curriculum import RunState
from hf_genret.training.processes import main_says

logger = logging.getLogger(__name__)


class PublishingTrainer(Trainer):
    """A Trainer whose result is a whole retriever: index, vectors and documents go with the model.

    transformers' own `push_to_hub` would upload the output folder, which here holds the states of
    stages, and write a card of its own.
    """

    model: GenRetModel
    data: TrainingData
    run: RunState
    run_args: GenRetTrainingArguments
    processing_class: PreTrainedTokenizerBase | None

    def retriever(self) -> GenRetriever:
        """What has been trained, indexed with the ids of the last stage that gave some.

        LoRA is merged in a copy, so that training can go on.

        Raises:
            ConfigError: When no stage has given ids yet.
        """
        if not self.run.whole:
            raise ConfigError("no stage has given ids yet; train() comes before push_to_hub().")
        model: GenRetModel = self.accelerator.unwrap_model(self.model)
        if has_lora(model):
            model = copy.deepcopy(model)
            merge_lora(model)
        with torch.random.fork_rng():
            vectors = pooled_vectors(model, self.data.items)
        model.set_index(*self.run.ids(), vectors=vectors)
        documents = self.data.items.documents
        found = GenRetriever(model, self.processing_class, documents)
        found.facts = {
            "seed": self.run_args.seed,
            "data": data_facts(documents),
            "exclude_history": self.data.exclude_history,
        }
        return found

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> str:
        """Upload the retriever to `args.hub_model_id`; the output folder's name by default.

        Args:
            commit_message: Of the one commit.
            blocking: Kept for transformers' sake; the call returns when the upload is done.
            token: One that may write; `args.hub_token` by default.
            revision: Branch, made where needed; `args.hub_revision` by default.
            private: Whether a new repository is private; `args.hub_private_repo` by default.
            **kwargs: Of transformers' card, which is not written; left aside.

        Returns:
            Address of the commit, the same in all processes.

        Raises:
            CheckpointError: When the Hub or the disk refuses.
            ConfigError: When no stage has given ids yet.
        """
        del blocking, kwargs
        args = self.run_args
        found = self.retriever()
        address = ""
        if self.is_world_process_zero():
            address = found.push_to_hub(
                self.hub_model_id or args.hub_model_id or Path(args.output_dir).resolve().name,
                private=args.hub_private_repo if private is None else private,
                commit_message=commit_message,
                token=token or args.hub_token,
                revision=revision or getattr(args, "hub_revision", None),
            )
        return str(main_says(address))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing: the state of a stage is no checkpoint that anybody could search."""
        del checkpoint_folder

"""Callbacks of a stage: the best weights so far, the order of its batches, one progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_genret.errors import ConfigError
from hf_genret.tensor_files import read_metadata, read_tensors

BEST_FILE = "best.safetensors"


class KeepBest(TrainerCallback):
    """Keeps the weights that dev liked best; those before the first step take part.

    Only weights that the stage trains are kept, in memory, and in every checkpoint so that a
    resumed run knows them.

    Args:
        metric: Name among the evaluation's metrics, higher is better.
        patience: Evaluations without gain after which the stage ends; 0 for never.
    """

    def __init__(self, metric: str, patience: int) -> None:
        self.metric, self.patience = metric, patience
        self.value, self.step, self.waited = float("-inf"), 0, 0
        self.weights: dict[str, Tensor] = {}

    @property
    def exhausted(self) -> bool:
        """Whether patience is over."""
        return bool(self.patience) and self.waited >= self.patience

    def offer(self, model: nn.Module, value: float, step: int) -> None:
        """Look at a model and what dev said of it."""
        if value > self.value:
            self.value, self.step, self.waited = value, step, 0
            self.weights = {
                name: parameter.detach().cpu().clone()
                for name, parameter in model.named_parameters()
                if parameter.requires_grad
            }
        else:
            self.waited += 1

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Compare, and end the stage when patience is over.

        Raises:
            ConfigError: When dev is not asked for this metric in this stage.
        """
        del args
        metrics = {name.removeprefix("eval_"): value for name, value in kwargs["metrics"].items()}
        if self.metric not in metrics:
            raise ConfigError(
                f"keep_best is '{self.metric}', which this stage does not measure; "
                f"known: {', '.join(metrics)}."
            )
        self.offer(kwargs["model"], metrics[self.metric], state.global_step)
        if self.exhausted:
            control.should_training_stop = True

    def restore(self, model: nn.Module) -> None:
        """Put the best weights back."""
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self.weights.items():
                own[name].copy_(value.to(own[name].device))

    def save(self, folder: str | Path) -> None:
        """Write what is known into a checkpoint folder."""
        facts = {"value": str(self.value), "step": str(self.step), "waited": str(self.waited)}
        save_file(self.weights, Path(folder) / BEST_FILE, metadata=facts)

    def load(self, folder: str | Path) -> None:
        """Read it back; a folder without it leaves everything as it is."""
        path = Path(folder) / BEST_FILE
        if not path.is_file():
            return
        self.weights, facts = read_tensors(path), read_metadata(path)
        self.value = float(facts["value"])
        self.step, self.waited = int(facts["step"]), int(facts["waited"])


@contextmanager
def added(trainer: Trainer, callbacks: list[TrainerCallback]) -> Iterator[None]:
    """Callbacks that a trainer has for as long as a stage runs."""
    for callback in callbacks:
        trainer.add_callback(callback)
    try:
        yield
    finally:
        for callback in callbacks:
            trainer.remove_callback(callback)


class StageRules(TrainerCallback):
    """What holds in every stage, whatever transformers and accelerate make of it.

    Args:
        model: Keeps its special tokens: they are those of ids, and transformers would put those of
            the tokenizer, which are words, in their place.
        set_epoch: Chooses the order of an epoch's batches. accelerate wraps the sampler, twice in
            a run of several processes that goes on inside an epoch, and then does not reach it.
    """

    def __init__(self, model: PreTrainedModel, set_epoch: Callable[[int], None]) -> None:
        self.set_epoch = set_epoch
        self.tokens = [
            (config, name, getattr(config, name, None))
            for config in (model.config, model.generation_config)
            for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        ]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the special tokens back."""
        del args, state, control, kwargs
        for config, name, value in self.tokens:
            setattr(config, name, value)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the sampler which epoch begins, or goes on."""
        del args, control, kwargs
        self.set_epoch(int(state.epoch or 0))


class StageProgress(TrainerCallback):
    """One bar a stage, with the newest loss and dev figure.

    Args:
        title: The stage's name and number.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        del args, control, kwargs
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.title)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move it."""
        del args, state, control, kwargs
        if self.bar is not None:
            self.bar.update(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest figures."""
        del args, state, control, kwargs
        if self.bar is not None and logs:
            shown = {k: v for k, v in logs.items() if k in ("loss", "eval_ndcg@10", "eval_recall")}
            self.bar.set_postfix({k: f"{float(v):.3f}" for k, v in shown.items()})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close it."""
        del args, state, control, kwargs
        if self.bar is not None:
            self.bar.close()
            self.bar = None

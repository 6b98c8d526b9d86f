"""GenRetTrainer: transformers' Trainer, run once a stage, with ids assigned between the stages."""

from __future__ import annotations

import copy
import logging
import shutil
from collections import defaultdict
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState
from transformers.trainer_utils import TrainOutput

from hf_genret.encoding import ItemSource, QuerySource, pooled_vectors
from hf_genret.errors import CheckpointError, ConfigError
from hf_genret.evaluation.health import Finding, as_dicts, check_ids, check_use
from hf_genret.kept_vectors import kept_vectors
from hf_genret.modeling import GenRetModel
from hf_genret.training.arguments import GenRetTrainingArguments
from hf_genret.training.batches import PairBatches, TrainingData, pair_loader
from hf_genret.training.callbacks import KeepBest, StageProgress, StageRules, added
from hf_genret.training.curriculum import STATE_FILE, RunState, Stage
from hf_genret.training.dev import dev_metrics
from hf_genret.training.freezing import freeze, keep_frozen_still
from hf_genret.training.objectives import OBJECTIVES, Clock, Context, Objective
from hf_genret.training.optimizer import parameter_groups
from hf_genret.training.processes import main_says
from hf_genret.training.publishing import PublishingTrainer
from hf_genret.training.sparse_tables import SparseTables, for_rows
from hf_genret.training.stage_actions import perform
from hf_genret.training.watch import watched_tokens
from hf_genret.training.workshop import Workshop

logger = logging.getLogger(__name__)


class GenRetTrainer(PublishingTrainer):
    """Trains a `GenRetModel` through the stages of a curriculum.

    Each stage is one run of transformers' Trainer with its own learning rate, batch size, frozen
    parts and objective, in a folder of its own below `args.output_dir`. Before and after it ids
    are given or assigned. A run that was killed anywhere goes on with
    `train(resume_from_checkpoint=True)` to the same result: inside a stage from that stage's last
    checkpoint, between stages from the last border.

    Args:
        model: The model to train.
        args: Arguments; per-stage values are replaced.
        data: Corpus, training pairs, dev queries.
        stages: The curriculum.
        processing_class: The tokenizer, saved with every checkpoint.
        encodings: Folder that keeps what a frozen text encoder says of texts, for other runs on
            them; nothing is kept by default.

    Example:
        >>> trainer = GenRetTrainer(model, args, data=data, stages=recipe.stages)
        >>> trainer.train(resume_from_checkpoint=True)
    """

    state: Any
    control: Any
    model_wrapped: Any

    def __init__(
        self,
        model: GenRetModel,
        args: GenRetTrainingArguments,
        *,
        data: TrainingData,
        stages: list[Stage],
        processing_class: PreTrainedTokenizerBase | None = None,
        encodings: Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, args=args, processing_class=processing_class, **kwargs)
        for unwanted in (PrinterCallback, ProgressCallback):
            self.remove_callback(unwanted)
        self.loss_is_scaled_for_ga = False
        self.run_args = args
        self.data, self.stages, self.encodings = data, stages, encodings
        self.run = RunState.fresh(len(data.items), model.config.num_levels)
        if data.given is not None:
            self.run.give_codes(data.given)
        self._tables = SparseTables(model, args, self.accelerator)
        self.objective: Objective | None = None
        self.best: KeepBest | None = None
        self._batches: PairBatches | None = None
        self._terms: dict[str, list[Tensor]] = defaultdict(list)

    # ---- the curriculum -------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Run every stage that is not done yet.

        Args:
            resume_from_checkpoint: A checkpoint folder of this run, or True for its newest one.
            **kwargs: Passed to transformers' Trainer.

        Raises:
            CheckpointError: When a named checkpoint holds no state of a run.
        """
        inside = self._resume(resume_from_checkpoint)
        output = TrainOutput(0, 0.0, {})
        if self.run.stage == len(self.stages):
            self._keep_frozen_vectors(self.stages[-1])  # nothing left to train, much to index
        while self.run.stage < len(self.stages):
            stage = self.stages[self.run.stage]
            set_seed(self.run_args.seed + 1009 * self.run.stage)
            self._begin(stage)
            with self._callbacks(stage, inside), self._tables.learning(self._objective):
                output = self._run_stage(inside, **kwargs)
            self._end(stage, output)
            inside = None
        return output

    def _run_stage(self, inside: str | None, **kwargs: Any) -> TrainOutput:
        """The steps of a stage that are still to be done."""
        self.state.global_step, self.state.epoch = 0, 0
        if inside is None:
            self.run.first = self.evaluate() if self.best is not None else {}
            return super().train(**kwargs)
        state = TrainerState.load_from_json(str(Path(inside) / "trainer_state.json"))
        exhausted = self.best is not None and self.best.exhausted
        if state.global_step >= self.args.max_steps or exhausted:
            self.state = state  # killed after the last step: another one would be too many
            return TrainOutput(state.global_step, 0.0, {})
        return super().train(resume_from_checkpoint=inside, **kwargs)

    def _begin(self, stage: Stage) -> None:
        """Freeze what the stage does not train, do its first actions, set its arguments."""
        self.args = self._stage_args(stage)
        self.optimizer, self.lr_scheduler = None, None
        # Wrapped anew: DDP synchronises only what was trainable when it was made.
        self.model_wrapped = self.accelerator.unwrap_model(
            self.model_wrapped, keep_fp32_wrapper=False
        )
        freeze(self.model, stage.train)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            parts = ", ".join(stage.train)
            raise ConfigError(f"Stage '{stage.name}' trains {parts}, which this model lacks.")
        self._keep_frozen_vectors(stage)
        if self.model.encoder.history_of_documents:  # queries read the documents' vectors
            self.model.set_vectors(pooled_vectors(self.model, self.data.items))
        if not self.run.started:
            facts = self._perform(stage, stage.before)
            if "ids" in stage.before:
                self._check_ids()
            self.run.started = True
            if facts:
                logger.info("Before stage %s: %s", stage.name, facts)
        self._check_codes(stage)
        context = Context(
            codes=self.run.codes,
            level=stage.level,
            sizes=self.model.config.codebook_sizes,
            relevant=self.data.train.queries.relevant,
            paths=self.run.paths,
        )
        self.objective = OBJECTIVES[stage.objective](context, stage.options)
        self.objective.restore(self.run.objective)

    def _end(self, stage: Stage, output: TrainOutput) -> None:
        """Put the best weights back, assign ids, and save the border."""
        facts: dict[str, Any] = {"stage": stage.name, "steps": output.global_step, **self.run.first}
        if self.best is not None:
            self.best.restore(self.model)
            facts |= {"best_step": self.best.step, self.best.metric: self.best.value}
        facts |= self._perform(stage, stage.after)
        if stage.after:
            self._check_ids()
        facts["warnings"], self.run.findings = self.run.findings, []
        facts["history"] = [
            entry for entry in self.state.log_history if "train_runtime" not in entry
        ]
        finished = Path(self.args.output_dir)
        self.run.log.append(facts)
        self.run.stage, self.run.started = self.run.stage + 1, False
        self.run.first, self.run.objective = {}, {}
        if self.run_args.save_stages:
            self._save_border()
        if self.args.should_save:
            shutil.rmtree(finished, ignore_errors=True)

    def _perform(self, stage: Stage, actions: dict[str, Any]) -> dict[str, Any]:
        """Do actions; every process goes on with the ids that the main process found."""
        shop = Workshop(self.model, self.data, self.run, stage, self.run_args.seed)
        try:
            facts = perform(shop, actions)
        except ValueError as error:  # of indexing: numbers that are none, sizes that do not fit
            raise ConfigError(f"Stage '{stage.name}': {error}") from error
        for finding in shop.findings:
            self._warn(finding)
        if self.args.world_size > 1 and actions:
            self.run.agree()
            if self.run.whole:
                self.model.set_index(*self.run.ids())
        return facts

    def _check_codes(self, stage: Stage) -> None:
        """Refuse a stage that reads ids which nothing has given yet."""
        levels = self.run.codes.shape[1]
        needed = OBJECTIVES[stage.objective].codes_needed(stage.level, levels)
        if needed > 0 and self.run.codes[:, :needed].min() < 0:
            raise ConfigError(
                f"Stage '{stage.name}' reads the codes of {needed} levels, and no stage before it "
                "gave them (before: {ids: kmeans}, or after: {assign: greedy} of an earlier stage)."
            )

    def _stage_args(self, stage: Stage) -> GenRetTrainingArguments:
        """The run's arguments with the stage's values."""
        args = copy.copy(self.run_args)
        args.output_dir = str(self._folder(self.run.stage))
        args.learning_rate, args.weight_decay = stage.learning_rate, stage.weight_decay
        args.per_device_train_batch_size = stage.batch_size
        args.num_train_epochs = stage.epochs
        steps = -(-len(self.data.pair_query) // (stage.batch_size * args.world_size))
        total = max(1, round(stage.epochs * steps / args.gradient_accumulation_steps))
        args.max_steps = min(total, stage.max_steps) if stage.max_steps else total
        args.warmup_steps = max(1, round(stage.warmup * args.max_steps))
        if stage.keep_best is not None and self.data.dev is not None:
            args.eval_strategy = "steps"
            args.eval_steps = max(1, -(-args.max_steps // stage.evaluations))
        args.logging_steps = min(args.logging_steps, max(1, args.max_steps // 10))
        return args

    def _keep_frozen_vectors(self, stage: Stage) -> None:
        """Run a frozen text encoder once over every text instead of once a step."""
        sources: list[ItemSource | QuerySource | None] = [
            self.data.items,
            self.data.train,
            self.data.dev,
        ]
        frozen = "encoder" not in stage.train
        for source in sources:
            if source is None or source.tokens is None:
                continue
            encoder = self.model.encoder.query
            if not frozen:
                source.vectors = None
            elif source.vectors is None and getattr(encoder, "memory", "pooled") == "pooled":
                source.vectors = kept_vectors(self.model, source, self.encodings)

    def _callbacks(self, stage: Stage, inside: str | None) -> AbstractContextManager[None]:
        """The stage's own callbacks, there for as long as it runs."""
        self.best = None
        if stage.keep_best and self.data.dev is None:
            logger.warning("No dev queries: stage %s keeps its last weights.", stage.name)
        elif stage.keep_best:
            self.best = KeepBest(stage.keep_best, stage.patience)
        if self.best is not None and inside is not None:
            self.best.load(inside)
        callbacks: list[Any] = [StageRules(self.model, self._set_epoch)]
        callbacks += [StageProgress(self._title())] if not self.args.disable_tqdm else []
        return added(self, [*callbacks, *([self.best] if self.best else [])])

    def _set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, however often accelerate wrapped the sampler."""
        if self._batches is not None:
            self._batches.set_epoch(epoch)

    def _title(self) -> str:
        return f"{self.run.stage + 1}/{len(self.stages)} {self.stages[self.run.stage].name}"

    # ---- checkpoints ----------------------------------------------------------------------

    def _folder(self, stage: int) -> Path:
        return Path(self.run_args.output_dir) / f"stage-{stage:02d}"

    def _save_border(self) -> None:
        """A checkpoint between stages; the newest replaces the one before."""
        folder = Path(self.run_args.output_dir) / "border"
        if not self.args.should_save:
            return
        fresh = folder.with_name("border.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self.model.save_pretrained(fresh)
        self.run.save(fresh)
        old = folder.with_name("border.old")
        if folder.exists():  # else a run was killed between the renames, and the old one is all
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """transformers' checkpoint, the best weights, and last the state of the run.

        Older checkpoints go only when the new one is whole.
        """
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        if not self.args.should_save:
            return
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.best is not None:
            self.best.save(folder)
        self.run.objective = self._objective.state()
        self.run.save(folder)
        kept = _whole_checkpoints(folder.parent)[: limit or None]
        for other in folder.parent.glob("checkpoint-*"):
            if other not in kept:
                shutil.rmtree(other, ignore_errors=True)

    def _resume(self, wish: str | bool | None) -> str | None:
        """Load model and state; the folder to go on from when it lies inside a stage."""
        if not wish:
            return None
        folder = self._newest() if wish is True else Path(wish)
        if folder is None:
            return None
        self.run = RunState.load(folder)
        self._load_from_checkpoint(str(folder))
        if self.run.whole:
            self.model.set_index(*self.run.ids())
        logger.info("Resuming from %s, stage %d.", folder, self.run.stage + 1)
        return str(folder) if self.run.started else None

    def _newest(self) -> Path | None:
        """The newest whole checkpoint: inside the last stage, or the last border."""
        root = Path(self.run_args.output_dir)
        for number in reversed(range(self._border_stage(), len(self.stages))):
            whole = _whole_checkpoints(self._folder(number))
            if whole:
                return whole[0]
        return next((root / n for n in ("border", "border.old") if (root / n).is_dir()), None)

    def _border_stage(self) -> int:
        for name in ("border", "border.old"):
            folder = Path(self.run_args.output_dir) / name
            if folder.is_dir():
                return RunState.load(folder).stage
        return 0

    # ---- Trainer's hooks ------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of pairs in an order that seed, stage and epoch fix."""
        loader = pair_loader(
            self.data,
            self._objective.sample_for,
            self.args.per_device_train_batch_size,
            self.run_args.seed,
            self.run.stage,
            self._objective.groups(),
        )
        if isinstance(loader.batch_sampler, PairBatches):
            self._batches = loader.batch_sampler
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    @property
    def _objective(self) -> Objective:
        if self.objective is None:
            raise CheckpointError("No stage is running.")
        return self.objective

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """The sum of the objective's terms; each term is logged under its name."""
        del num_items_in_batch
        keep_frozen_still(self.model)
        self._objective.clock = Clock(
            self.state.global_step, self.args.max_steps, float(self.state.epoch or 0)
        )
        terms = model(objective=self._objective, batch=inputs)
        for name, value in terms.items():
            self._terms[name].append(value.detach())
        loss = sum(terms.values())
        return (loss, terms) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean of each loss term since the last log, and a few token distributions."""
        if "loss" in logs:
            for name, values in self._terms.items():
                logs[f"loss_{name}"] = round(float(torch.stack(values).mean()), 5)
            self._terms.clear()
            logs.update(self._objective.figures())
            logs.update(self._code_use())
            logs.update(watched_tokens(self.model, self.data, self._objective))
        super().log(logs, *args, **kwargs)

    def _code_use(self) -> dict[str, float]:
        """Share of each level's codes that were somebody's most probable one since the last log."""
        use, self._objective.use = self._objective.use, {}
        for level, counts in use.items():
            for finding in check_use(counts.numpy(), level):
                self._warn(finding)
        return {f"used_{level}": float((n > 0).float().mean()) for level, n in use.items()}

    def _check_ids(self) -> None:
        """Look at ids that are whole, but not at levels that are uneven by design.

        Such are words of titles and fillings of short ids, and numbers that tell ids apart.
        """
        if not self.run.whole:
            return
        codes, levels = self.run.ids()[0], list(range(1, self.run.codes.shape[1] + 1))
        if self.data.given is not None:
            levels = []
        elif self.data.position_code or any(
            "disambiguate" in {**stage.before, **stage.after} for stage in self.stages
        ):
            levels = levels[:-1]
        sizes = self.model.config.codebook_sizes
        for finding in check_ids(codes.numpy(), sizes, levels=levels):
            self._warn(finding)

    def _warn(self, finding: Finding) -> None:
        """Say it once a stage, and keep it for the report."""
        known = {(old["figure"], old["level"]) for old in self.run.findings}
        if (finding.figure, finding.level) not in known:
            logger.warning("%s: %s", self._title(), finding.message)
            self.run.findings += as_dicts([finding])

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: Any, model: Any = None) -> tuple[Any, Any]:
        """transformers' choice, or an AdamW that knows gradients of single rows."""
        made_by, settings = PublishingTrainer.get_optimizer_cls_and_kwargs(args, model)
        return for_rows(made_by, model), settings

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """AdamW; parts with a rate of their own have a group of their own."""
        rates = self.stages[self.run.stage].rates
        if not rates:
            return super().create_optimizer(*args, **kwargs)
        made_by, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        groups = parameter_groups(
            self.model,
            rates,
            learning_rate=self.args.learning_rate,
            weight_decay=self.args.weight_decay,
            decayed=self.get_decay_parameter_names(self.model),
        )
        optimizer: Any = made_by(groups, **settings)
        self.optimizer = optimizer
        return optimizer

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Dev metrics of the present weights: dense ranking, and search where an index exists."""
        del eval_dataset, ignore_keys
        found = dev_metrics(
            self.model,
            self.data,
            beams=self.run_args.search_beams,
            search=OBJECTIVES[self.stages[self.run.stage].objective].searches,
        )
        found = main_says(found)  # all processes have to stop and to keep the same
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        logger.info("%s, step %d: %s", self._title(), self.state.global_step, found)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not estimated: batches are not sequences of tokens of one length."""
        del inputs
        return 0


def _whole_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a stage that hold the run's state, which is written last; newest first."""
    found = [path for path in folder.glob("checkpoint-*") if (path / STATE_FILE).is_file()]
    return sorted(found, key=lambda path: -int(path.name.rpartition("-")[2]))

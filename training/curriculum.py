"""The curriculum: stages in order, and the state that survives between them."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hf_genret.errors import CheckpointError, ConfigError
from hf_genret.indexing.paths import flat_paths
from hf_genret.sealed import seal, unseal
from hf_genret.tensor_files import read_tensors
from hf_genret.training.processes import main_says

STATE_FILE = "curriculum.json"
CODES_FILE = "curriculum.safetensors"
_OBJECTIVE = "objective."


@dataclass
class Stage:
    """One stretch of training with one objective; ids may be given before it and assigned after.

    Attributes:
        name: Shown in logs and folder names.
        objective: Name in `hf_genret.training.objectives.OBJECTIVES`.
        train: Parts that learn: `encoder`, `history` (of the encoder only what reads histories),
            `adapter`, `decoder`, `heads`, `indexer`, `ranker`.
        epochs: Passes over the training pairs (a fraction is fine).
        max_steps: Upper limit of optimizer steps; 0 for none.
        batch_size: Pairs a step and process.
        learning_rate: Peak; it rises over `warmup` of the steps and falls to zero linearly.
        weight_decay: Of AdamW.
        warmup: Share of the steps.
        rates: Learning rate of a part as a multiple of `learning_rate`, by part.
        skip: Leave the stage out, until somebody asks for it.
        ids: Recipes with other ids than these leave the stage out; empty for all.
        level: Level that the objective trains, from 1; 0 means all.
        before: Actions before the first step, as `{"clusters": ...}` or `{"ids": "kmeans"}`.
        after: Actions after the last step, as `{"assign": "greedy"}` or `{"reassign": "exact"}`.
        keep_best: Dev metric whose best weights (the start's included) are kept; None keeps the
            last.
        evaluations: Dev evaluations during the stage when `keep_best` is set.
        patience: Evaluations without gain after which the stage ends early; 0 for never.
        options: Settings of the objective.
    """

    name: str
    objective: str
    train: list[str]
    epochs: float = 1.0
    max_steps: int = 0
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.05
    rates: dict[str, float] = field(default_factory=dict)
    skip: bool = False
    ids: list[str] = field(default_factory=list)
    level: int = 0
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    keep_best: str | None = None
    evaluations: int = 4
    patience: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = (set(self.train) | set(self.rates)) - set(PARTS)
        if unknown:
            raise ConfigError(
                f"Stage '{self.name}' trains {sorted(unknown)}; known parts: {', '.join(PARTS)}."
            )
        if not self.train:
            raise ConfigError(f"Stage '{self.name}' trains nothing; leave it out with skip=true.")
        if not 0 < self.epochs < float("inf") or self.batch_size < 1 or self.evaluations < 1:
            raise ConfigError(
                f"Stage '{self.name}' needs epochs > 0, batch_size >= 1 and evaluations >= 1."
            )

    def facts(self) -> dict[str, Any]:
        """What a record of the training says of the stage beside its log."""
        names = ("name", "objective", "level", "train", "epochs", "max_steps")
        return {name: getattr(self, name) for name in (*names, "batch_size", "learning_rate")}


PARTS: dict[str, tuple[str, ...]] = {
    "encoder": ("encoder.query.", "encoder.items.", "encoder.history."),
    "history": ("encoder.history.",),
    "adapter": ("encoder.query_adapter.", "encoder.item_adapter."),
    "decoder": ("decoder.",),
    "heads": ("heads.",),
    "indexer": ("indexer.",),
    "ranker": ("ranker.",),
}


@dataclass
class RunState:
    """Where a run stands between two steps.

    Attributes:
        stage: Number of the stage that runs or comes next.
        codes: [N, L] int64, ids so far, -1 where none was assigned; of several the first.
        start_codes: [N, L] int64, the clusters that heads were started at, -1 where none.
        started: Whether the actions before stage `stage` have been done.
        log: One dictionary a finished stage.
        first: What dev said before the first step of stage `stage`.
        objective: What the stage's objective has to remember beside the weights.
        findings: What stage `stage` saw of a collapse so far.
        earlier: Seconds of the processes before this one, when a run goes on.
        paths: [N, J, L] int64, all ids where a document owns several, equal ones allowed; None
            where `codes` says it all. Changed by `give_paths` and `give_codes` alone.
    """

    stage: int
    codes: Tensor
    start_codes: Tensor
    started: bool = False
    log: list[dict[str, Any]] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    objective: dict[str, Tensor] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    earlier: float = 0.0
    paths: Tensor | None = None
    _began: float = field(default_factory=time.perf_counter, repr=False, compare=False)

    @classmethod
    def fresh(cls, documents: int, levels: int) -> RunState:
        """The state before the first stage."""
        return cls(0, torch.full((documents, levels), -1), torch.full((documents, levels), -1))

    @property
    def whole(self) -> bool:
        """Whether every document has its whole id."""
        return bool(self.codes.min() >= 0)

    def give_codes(self, codes: Tensor) -> None:
        """Let every document have one id [N, L]."""
        self.codes.copy_(codes)
        self.paths = None

    def give_paths(self, paths: Tensor) -> None:
        """Let every document have J ids [N, J, L], sorted within a document; one is `codes`."""
        if paths.shape[1] == 1:
            return self.give_codes(paths[:, 0])
        self.paths = _sorted(paths.long())
        self.codes.copy_(self.paths[:, 0])
        return None

    def ids(self) -> tuple[Tensor, Tensor]:
        """Codes [P, L] and document rows [P], as `GenRetModel.set_index` takes them.

        Equal ids of a document are one.
        """
        if self.paths is None:
            return self.codes, torch.arange(len(self.codes))
        return flat_paths(self.paths)

    def agree(self) -> None:
        """Take over the ids that the main process has."""
        self.codes.copy_(main_says(self.codes))
        self.start_codes.copy_(main_says(self.start_codes))
        self.paths = main_says(self.paths)

    def save(self, folder: str | Path) -> None:
        """Write the state into a checkpoint folder; the JSON, which names it whole, comes last.

        It seals all files of the folder but those that other processes may still be writing.
        """
        folder = Path(folder)
        codes = {"codes": self.codes.contiguous(), "start_codes": self.start_codes.contiguous()}
        codes |= {} if self.paths is None else {"paths": self.paths.contiguous()}
        codes |= {f"{_OBJECTIVE}{name}": value for name, value in self.objective.items()}
        save_file(codes, folder / CODES_FILE)
        facts = {
            "stage": self.stage,
            "started": self.started,
            "log": self.log,
            "first": self.first,
            "findings": self.findings,
            "seconds": self.earlier + time.perf_counter() - self._began,
        }
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        mine = [path for path in files if not path.name.startswith("rng_state_")]
        seal(folder / STATE_FILE, facts, (path for path in mine if path.name != STATE_FILE))

    @classmethod
    def load(cls, folder: str | Path) -> RunState:
        """Read the state back.

        Raises:
            CheckpointError: When the folder holds no state of a run, or a damaged one.
        """
        folder = Path(folder)
        if not (folder / STATE_FILE).is_file():
            raise CheckpointError(f"{folder} holds no state to resume from.")
        facts, tensors = unseal(folder / STATE_FILE), read_tensors(folder / CODES_FILE)
        return cls(
            int(facts["stage"]),
            tensors["codes"],
            tensors["start_codes"],
            bool(facts["started"]),
            list(facts["log"]),
            dict(facts["first"]),
            {
                name.removeprefix(_OBJECTIVE): value
                for name, value in tensors.items()
                if name.startswith(_OBJECTIVE)
            },
            list(facts["findings"]),
            float(facts["seconds"]),
            tensors.get("paths"),
        )


def _sorted(paths: Tensor) -> Tensor:
    """Paths [N, J, L] with those of each document in the order of their codes."""
    for level in reversed(range(paths.shape[2])):
        order = paths[:, :, level].sort(dim=1, stable=True).indices
        paths = paths.gather(1, order[..., None].expand_as(paths))
    return paths


def stages_from(settings: list[dict[str, Any]]) -> list[Stage]:
    """Stages from a recipe's list.

    Raises:
        ConfigError: When a stage has an unknown field, lacks a needed one, or has the name of
            another.
    """
    from hf_genret.training.checks import known, typed  # they check stages

    if not isinstance(settings, list) or not all(isinstance(entry, dict) for entry in settings):
        raise ConfigError("stages is no list of stages, each with settings by name.")
    fields = [item.name for item in dataclasses.fields(Stage)]
    stages: list[Stage] = []
    for number, entry in enumerate(settings):
        name = str(entry.get("name", number + 1))
        for key in entry:
            known(key, fields, f"setting of stage '{name}'")
        lacking = [key for key in ("name", "objective", "train") if key not in entry]
        if lacking:
            raise ConfigError(f"Stage '{name}' lacks {', '.join(lacking)}.")
        if name in [stage.name for stage in stages]:
            raise ConfigError(f"Two stages are called '{name}'.")
        stages.append(Stage(**typed(Stage, entry, f"stages.{name}.")))
    return stages

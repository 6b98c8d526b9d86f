"""The factors of the study and their values, as cells: what is trained and how it is searched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hf_genret.errors import ConfigError
from hf_genret.training.build import codebook_sizes, documents_allowed, search_beams
from hf_genret.training.checks import nearest
from hf_genret.training.compare.names import System, parse_system
from hf_genret.training.compare.plan import START
from hf_genret.training.recipes import load_recipe
from hf_genret.training.study.values import Values

GENERATIVE, DENSE = "generative", "dense"
OWN_QUERIES = ("queries.pseudo=0", "queries.repeat_train=1", "queries.use_train=true")
"""Settings of every cell: training queries are made once, of the whole corpus."""


HARD_OF = 8
"""Negatives of each query where their hardness varies."""
_OF_A_DECODER = "model.decoder_dim={},model.decoder_layers={},model.decoder_heads={}"


@dataclass(frozen=True)
class Cell:
    """One figure of a plot: a training (or one that other cells share) and a measurement.

    Attributes:
        factor: Name in `FACTORS`.
        label: The value as people read it.
        line: `generative` or `dense`, or where ids come from.
        trained: What is trained.
        value: The value as a number; None where it has none, or for a line of reference.
        counts: Which number of the measured system is the value: `documents`, `parameters` or
            `width`; empty where `value` says it.
        share: Of the corpus.
        beams: Leaves visited; None for the checkpoint's own number.
        ranked: Documents that may be ranked for a query; None for as many as the recipe allows.
        elsewhere: Whether it is measured on another corpus than it was trained on.
        baseline: Whether this is the line's default.
        seed: Of the training.
    """

    factor: str
    label: str
    line: str
    trained: System
    value: float | None = None
    counts: str = ""
    share: float = 1.0
    beams: int | None = None
    ranked: int | None = None
    elsewhere: bool = False
    baseline: bool = False
    seed: int = 0

    @property
    def slug(self) -> str:
        """The name of its folder."""
        plain = re.sub(r"[^a-z0-9.]+", "-", self.label.lower()).strip("-")
        return f"{self.factor}-{plain}-{self.line}-s{self.seed}"

    @property
    def training(self) -> tuple[float, int, str]:
        """Cells that are equal here share a checkpoint."""
        return self.share, self.seed, self.trained.name

    @property
    def title(self) -> str:
        """What a line of progress calls it."""
        return f"{self.factor} {self.label} {self.line}" + (f" seed {self.seed}" * bool(self.seed))


@dataclass(frozen=True)
class Grid:
    """What factors make their cells of.

    Attributes:
        values: Of the factors.
        generative: The generative system of all factors but `ids`.
        decoder: Width and blocks of its decoder by default.
        beams: Leaves that it visits by default.
        ranked: Documents that it ranks for a query by default; None where leaves are counted.
        batch: Pairs of a step of dense training, each the others' negative.
    """

    values: Values
    generative: System
    decoder: tuple[int, int]
    beams: int
    ranked: int | None
    batch: int

    def reference(self, factor: str, line: str) -> Cell:
        """A line's default, which a factor does not change."""
        trained = self.generative if line == GENERATIVE else START
        return Cell(factor, "reference", line, trained, baseline=True)


def _dense(name: str, *settings: str, recipe: str = START.recipe) -> System:
    return System(f"dense-{name}", recipe, settings)


def _corpus(grid: Grid) -> Iterator[Cell]:
    for share in grid.values.shares:
        for line, trained in ((DENSE, START), (GENERATIVE, grid.generative)):
            label = f"{100 * share:g} %"
            yield Cell(
                "corpus",
                label,
                line,
                trained,
                counts="documents",
                share=share,
                # A recipe ranks a share of the documents, and quality would grow with it.
                ranked=grid.ranked if share < 1 and line == GENERATIVE else None,
                baseline=share == 1,
            )


def _low_rank(rank: int) -> System:
    # The map starts at random where other similarities start at the encoder's own inner product,
    # so it has to move faster to get there in as many steps.
    own = (f"model.ranker_rank={rank}", "stages.encoder.rates={ranker: 10}")
    return _dense(f"rank{rank}", *own, recipe=f"{START.recipe}:low_rank")


def _dim(grid: Grid) -> Iterator[Cell]:
    for rank in grid.values.dims:
        yield Cell("dim", str(rank), DENSE, _low_rank(rank), value=float(rank))
    yield Cell("dim", "full", DENSE, START, counts="width", baseline=True)
    yield grid.reference("dim", GENERATIVE)


def _decoder(grid: Grid) -> Iterator[Cell]:
    for width, blocks in grid.values.decoders:
        usual = (width, blocks) == grid.decoder
        name = f"{grid.generative.name}-{width}x{blocks}"
        own = _OF_A_DECODER.format(width, blocks, max(1, width // 32)).split(",")
        settings = (*grid.generative.settings, *own)
        changed = replace(grid.generative, name=name, settings=settings)
        yield Cell(
            "decoder",
            f"{width} x {blocks}",
            GENERATIVE,
            grid.generative if usual else changed,
            counts="parameters",
            baseline=usual,
        )
    for maps in grid.values.maps:
        yield Cell(
            "decoder",
            f"{maps} map{'s' * (maps > 1)}",
            DENSE,
            START if maps == 1 else _maps(maps),
            counts="parameters",
            baseline=maps == 1,
        )


def _maps(count: int) -> System:
    recipe = START.recipe if count == 2 else f"{START.recipe}:bilinear"
    return _dense(f"maps{count}", "model.item_adapter=true", recipe=recipe)


def _negatives(grid: Grid) -> Iterator[Cell]:
    for count in grid.values.negatives:
        if count:
            options = json.dumps({"in_batch": False, "random": count})
            trained = _dense(f"k{count}", f"stages.encoder.options={options}")
            yield Cell("negatives", str(count), DENSE, trained, value=float(count))
        else:
            others = float(grid.batch - 1)
            yield Cell("negatives", "in-batch", DENSE, START, value=others, baseline=True)
    yield grid.reference("negatives", GENERATIVE)


def _hardness(grid: Grid) -> Iterator[Cell]:
    for ratio in grid.values.ratios:
        hard = round(ratio * HARD_OF)
        options = json.dumps({"in_batch": False, "random": HARD_OF - hard, "hard": hard})
        trained = _dense(
            f"hard{hard}of{HARD_OF}",
            "stages.hard.skip=false",
            f"stages.hard.options={options}",
            "stages.hard.keep_best=null",  # the best weights would be the start's, harm unseen
        )
        yield Cell("hardness", f"{ratio:g}", DENSE, trained, value=ratio)
    yield grid.reference("hardness", GENERATIVE)


def _dot() -> System:
    # Encoders differ in the length of their vectors; the scale has to find its own size.
    return _dense(
        "dot",
        "model.normalize=false",
        "model.ranker_scale=0.1",
        "stages.encoder.train=[encoder, adapter, ranker]",
        "stages.encoder.rates={ranker: 10}",
    )


_SIMILARITIES: dict[str, Callable[[], System]] = {
    "dot": _dot,
    "cosine": lambda: START,  # vectors of unit length and a scale
    "bilinear": lambda: _dense("bilinear", recipe=f"{START.recipe}:bilinear"),
    "low_rank": lambda: _low_rank(64),
}


def _similarity(grid: Grid) -> Iterator[Cell]:
    for name in grid.values.similarities:
        trained, label = _SIMILARITIES[name](), name.replace("_", "-")
        yield Cell("similarity", label, DENSE, trained, baseline=trained == START)
    yield grid.reference("similarity", GENERATIVE)


def _ids(grid: Grid) -> Iterator[Cell]:
    for name in grid.values.ids:
        learned = name == "learned"
        recipe = "fixed:title" if name == "title" else "fixed"
        settings = () if name == "title" else (f"ids={name}",)
        trained = grid.generative if learned else System(f"ids-{name}", recipe, settings)
        yield Cell("ids", name, name, trained, baseline=learned)
    yield grid.reference("ids", DENSE)


def _beams(grid: Grid) -> Iterator[Cell]:
    for count in sorted({*grid.values.beams, grid.beams}):
        yield Cell(
            "beams",
            str(count),
            GENERATIVE,
            grid.generative,
            value=float(count),
            beams=count,
            baseline=count == grid.beams,
        )
    yield grid.reference("beams", DENSE)


def _zero_shot(grid: Grid) -> Iterator[Cell]:
    for line, trained in ((DENSE, START), (GENERATIVE, grid.generative)):
        yield Cell("zero_shot", "another corpus", line, trained, elsewhere=True)


FACTORS: dict[str, Callable[[Grid], Iterator[Cell]]] = {
    "corpus": _corpus,
    "dim": _dim,
    "decoder": _decoder,
    "negatives": _negatives,
    "hardness": _hardness,
    "similarity": _similarity,
    "ids": _ids,
    "beams": _beams,
    "zero_shot": _zero_shot,
}


def make_grid(recipe: str, values: Values, settings: Sequence[str], documents: int) -> Grid:
    """What the factors start from.

    Args:
        recipe: Of the generative system, as `compare` names systems.
        values: Of the factors.
        settings: The user's overrides.
        documents: Of the corpus.

    Raises:
        ConfigError: For an unknown recipe, or one without ids.
    """
    system = parse_system(recipe)
    if not system.recipe or system.recipe.partition(":")[0] == START.recipe:
        raise ConfigError(f"--recipe {recipe}: a recipe with ids was expected, for example uri.")
    if system.sizes:
        sizes = f"model.codebook_sizes={list(system.sizes)}"
        system = replace(system, sizes=(), settings=(*system.settings, sizes))
    known = [s for s in settings if not s.startswith("stages.")]
    own = load_recipe(system.recipe, [*known, *system.settings], "text")
    dense = load_recipe(START.recipe, [s for s in settings if s in _taken_by(START, settings)])
    ranked = None
    if not (own.search.beams or own.model.get("search_beams")):
        ranked = int(documents_allowed(own, documents))
    return Grid(
        values,
        system,
        decoder=(own.model["decoder_dim"], own.model["decoder_layers"]),
        beams=search_beams(own, codebook_sizes(own, documents), documents),
        ranked=ranked,
        batch=next(stage.batch_size for stage in dense.stages if stage.name == "encoder"),
    )


def make_cells(
    grid: Grid, factors: Sequence[str], seeds: int, settings: Sequence[str]
) -> list[Cell]:
    """Cells of some factors, one seed after another, with what each training may cost.

    Args:
        grid: What they start from.
        factors: Names in `FACTORS`.
        seeds: Trainings of each, with seeds from 0.
        settings: The user's overrides, which go before the budget's.

    Raises:
        ConfigError: For an unknown factor.
    """
    for name in factors:
        if name not in FACTORS:
            raise ConfigError(f"Unknown factor '{name}'{nearest(name, FACTORS)}.")
    keys = {setting.partition("=")[0].strip() for setting in settings}
    budget = [s for s in grid.values.settings if _of_one_stage(s) and s.split("=")[0] not in keys]
    first = [cell for name in FACTORS if name in factors for cell in FACTORS[name](grid)]
    whole = {cell.trained.name: _within(cell.trained, budget) for cell in first}
    first = [replace(cell, trained=whole[cell.trained.name]) for cell in first]
    return [replace(cell, seed=seed) for seed in range(seeds) for cell in first]


def shared_settings(values: Values, wish: Sequence[str]) -> list[str]:
    """Overrides of all cells: the budget's, then the user's, then what the study decides."""
    budget = [setting for setting in values.settings if not _of_one_stage(setting)]
    return [*budget, *wish, *OWN_QUERIES]


def query_settings(values: Values, wish: Sequence[str]) -> list[str]:
    """Overrides that say which training queries are made, and with which encoder."""
    return [s for s in (*values.query_settings, *wish) if not s.startswith("stages.")]


def _of_one_stage(setting: str) -> bool:
    """Whether an override is of a stage that not every training has."""
    return setting.startswith("stages.") and not setting.startswith("stages.encoder.")


def _within(system: System, budget: Sequence[str]) -> System:
    """A system with the budget of the stages that it has; the start has the shared one alone."""
    if system.name == START.name:
        return START
    return replace(system, settings=(*_taken_by(system, budget), *system.settings))


def _taken_by(system: System, settings: Sequence[str]) -> list[str]:
    """Those overrides whose stage a system has."""
    recipe = load_recipe(system.recipe, system.settings, "text")
    stages = {stage.name for stage in recipe.stages}
    return [s for s in settings if not s.startswith("stages.") or s.split(".")[1] in stages]

"""Several systems on one data set: trained where they are not, measured alike, reported once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from hf_genret.data import load_data
from hf_genret.errors import ConfigError, GenRetError
from hf_genret.evaluation import scrub_command
from hf_genret.evaluation.fusion import Method
from hf_genret.evaluation.report import report as make_report
from hf_genret.outputs import check_results
from hf_genret.training.api import reading_words, task_of
from hf_genret.training.checks import known
from hf_genret.training.compare.assemble import Measured, assemble
from hf_genret.training.compare.checkpoints import training_record
from hf_genret.training.compare.names import System, parse_systems
from hf_genret.training.compare.plan import START, Plan, needed_systems
from hf_genret.training.compare.results import Results
from hf_genret.training.compare.selection import Selection
from hf_genret.training.compare.write import write_report
from hf_genret.training.given import shown_setting

logger = logging.getLogger(__name__)

_ALWAYS_THE_SAME = ("bm25", "cooccurrence", "popularity")


def compare(
    data: str | Path,
    systems: str | Iterable[str] = (),
    seeds: int = 1,
    *,
    output: str | Path,
    preset: str | Iterable[str] = (),
    settings: Sequence[str] = (),
    baseline: str | None = None,
    split: str = "test",
    sizes: str | Iterable[str] = (),
    fusion: str = "rrf",
    repeat: str | Iterable[str] = (),
    reading: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = logger.info,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train what is not there, measure every system on one split, and write the report.

    Started again with the same arguments it goes on where it was stopped; what was measured is
    not measured again. A system that fails is reported as failed, and the others go on.

    Args:
        data: Folder, file or `datasets` name, as `load_data` takes it.
        systems: Names as `parse_systems` takes them; beside those of presets, if any.
        seeds: Trainings of each system, with seeds from 0.
        output: Folder for checkpoints, runs and the report.
        preset: Names of presets, whose tables the report then has.
        settings: Overrides for every trained system, `key=value`.
        baseline: The system that others are tested against; by default the preset's, else
            `fixed:kmeans`, else `dense`.
        split: Which queries.
        sizes: Codebook sizes at which every system of `systems` with ids is trained as well, and
            those of a preset that compares sizes in place of its own.
        fusion: How two systems are joined: `rrf` or `weighted`.
        repeat: Of the systems, those that are trained with every seed; the others with the first
            alone. All by default.
        reading: Arguments of `load_data`, for example `{"streaming": True}`.
        tell: Hears what is being trained and measured.
        overwrite: Replace results on other data, and checkpoints of other settings, that stand in
            the folder.

    Returns:
        The report, also in `report.json`; `failed` names what did not work.

    Raises:
        ConfigError: For an unknown system, preset, setting or baseline, before anything is trained.
        DataError: When the data have a fault or no such split.
        CheckpointError: When results on other data stand in the folder.
    """
    began = time.perf_counter()
    task = task_of(data)
    chosen = Selection.of(systems, preset, sizes, settings, task)
    known(fusion, get_args(Method), "fusion")
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; at least 1 was expected.")
    plan = Plan(needed_systems(chosen.named()), chosen.settings, task)
    loaded = load_data(data, **(reading or {}))
    listed = chosen.listed(plan, len(loaded.documents))
    names = [system.name for system in listed]
    against, repeated = chosen.baseline(baseline, names), chosen.repeated(repeat, names)
    tables = chosen.tables(plan, len(loaded.documents))
    plan = Plan(needed_systems(listed), chosen.settings, task)
    folder = Path(output).expanduser().resolve()
    check_results(folder, loaded.fingerprint, overwrite=overwrite)
    results = Results(folder, loaded, plan, split, cast(Method, fusion), tell, overwrite)
    measured, failed = _run(results, listed, seeds, repeated)
    command = _command(chosen, listed, seeds, settings, baseline, split, fusion, repeat)
    places = {str(folder): "DIR", str(output): "DIR", str(data): "DATA"}
    found = assemble(listed, measured, results, against, tables)
    report = make_report(
        results.data,
        split,
        command + reading_words(reading),
        0,
        time.perf_counter() - began,
        found.pop("systems"),
        extra={
            "seeds": list(range(seeds)),
            **found,
            "shared_start": _start_facts(results, seeds),
            "setting_notes": plan.notes,
            "failed": [{**entry, "error": _plain(entry["error"], places)} for entry in failed],
        },
    )
    write_report(report, folder)
    return report


def _run(
    results: Results, listed: Sequence[System], seeds: int, repeated: Sequence[str]
) -> tuple[Measured, list[dict[str, Any]]]:
    """Every run, one seed after another; fusions after their parts."""
    ordered = sorted(listed, key=_turn)
    measured: Measured = {}
    failed: list[dict[str, Any]] = []
    for seed in range(seeds):
        for system in ordered:
            if seed and (system.name in _ALWAYS_THE_SAME or system.name not in repeated):
                continue
            try:
                measured.setdefault(system.name, {})[seed] = results.get(system, seed)[1]
            except (GenRetError, ValueError, RuntimeError) as error:
                # Hours of other systems are not given up for one.
                logger.debug("%s failed", system.name, exc_info=True)
                results.tell(f"{system.name}, seed {seed}: failed: {error}")
                failed.append({"system": system.name, "seed": seed, "error": str(error)})
    return measured, failed


def _turn(system: System) -> tuple[bool, bool, bool]:
    """The start first; fusions after their parts, and those that take ids after who has them."""
    return bool(system.parts), system.index_from is not None, system.name != START.name


def _start_facts(results: Results, seeds: int) -> dict[str, Any] | None:
    """Seconds in which the encoder and ranker that systems share were trained, one a seed."""
    seconds = []
    for seed in range(seeds):
        place = results.checkpoints.place(START, seed)
        try:
            seconds.append(training_record(place)["seconds"])
        except GenRetError:
            return None
    return {"system": START.name, "training_seconds": seconds}


def _command(
    chosen: Selection,
    listed: Sequence[System],
    seeds: int,
    settings: Sequence[str],
    baseline: str | None,
    split: str,
    fusion: str,
    repeat: str | Iterable[str],
) -> str:
    """The command as others can give it."""
    line = ["hf-genret", "compare", "DATA"]
    named = {system.name for system in listed}
    if chosen.presets:
        line += ["--preset", ",".join(preset.name for preset in chosen.presets)]
        named = {system.name for system in chosen.extra}
    if named:
        line += ["--systems", ",".join(s.name for s in listed if s.name in named)]
    line += ["--seeds", str(seeds)]
    if chosen.presets and chosen.sizes:
        line += ["--sizes", ",".join("x".join(map(str, sizes)) for sizes in chosen.sizes)]
    if repeat:
        line += ["--repeat", ",".join(system.name for system in parse_systems(repeat))]
    for setting in settings:
        line += ["--set", shown_setting(setting)]
    if baseline is not None:
        line += ["--baseline", baseline]
    line += ["--split", split]
    if fusion != "rrf":
        line += ["--fusion", fusion]
    return scrub_command([*line, "--output", "DIR"], {})


def _plain(text: str, places: dict[str, str]) -> str:
    """A sentence without the folders of this machine."""
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, places[place])
    return " ".join(text.split())

"""What the commands do: train a recipe on data, evaluate a checkpoint, the quickstart."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_genret import adapters
from hf_genret.adapters import Base, merge_lora, save_adapter, take_lora
from hf_genret.data import RetrievalData, load_data, stdlib_data
from hf_genret.data.interactions import is_interactions
from hf_genret.data.loading import is_built_in
from hf_genret.data.repeats import note_repeats
from hf_genret.dataset_search import search_dataset
from hf_genret.encoding import pooled_vectors
from hf_genret.errors import ConfigError
from hf_genret.evaluation import per_query, scrub_command, theorem1_report
from hf_genret.evaluation.own_documents import leave_own_out
from hf_genret.evaluation.report import report as make_report
from hf_genret.files import atomic_write_text
from hf_genret.manifest import TRAINING_FILE
from hf_genret.outputs import check_output
from hf_genret.retriever import GenRetriever
from hf_genret.same_texts import texts_digest
from hf_genret.training.build import Start, build, ids_each
from hf_genret.training.controls import save_control, train_control
from hf_genret.training.curriculum import Stage
from hf_genret.training.genret_trainer import GenRetTrainer
from hf_genret.training.given import PLACES, shown_setting
from hf_genret.training.limits import memory_named
from hf_genret.training.new_documents import FILE as NEW_FILE
from hf_genret.training.new_documents import (
    code_new,
    known_rows,
    without_documents,
    without_labels,
)
from hf_genret.training.objectives import OBJECTIVES
from hf_genret.training.processes import is_main, main_says, wait, world_size
from hf_genret.training.recipes import Recipe, load_recipe
from hf_genret.training.run_folder import (
    arguments,
    begun,
    disk_named,
    identity,
    prepare,
    work_folder,
)
from hf_genret.training.systems import Bench, same_corpus, save_untrained
from hf_genret.training.watch import recorded


def train(
    data: str | Path,
    recipe: str,
    output: str | Path,
    settings: Sequence[str] = (),
    resume: bool = False,
    seed: int = 0,
    encodings: str | Path | None = None,
    reading: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a recipe on a data set and save the checkpoint.

    The same seed gives the same weights, bit by bit, on the same machine with the same versions
    and the same number of threads. Other threads add up in another order: the last bits differ,
    and what follows from them. `training.json` records the number (`training.threads`).

    Args:
        data: Folder, file or `datasets` name, as `load_data` takes it.
        recipe: Name or YAML file.
        output: Where the checkpoint goes; the run itself lies in `<output>.run` until it is done.
        settings: Overrides, `key=value`.
        resume: Go on with an interrupted run.
        seed: Of everything random.
        encodings: Folder that keeps what a frozen encoder says of the texts, for other runs.
        reading: Arguments of `load_data`, for example `{"streaming": True}`.
        overwrite: Replace a checkpoint that stands there; one that goes on (`resume`) may.

    Returns:
        The report on dev (on no split when there is none), with the log of the stages.
    """
    place = check_output(output, overwrite=overwrite or resume)
    plan = load_recipe(recipe, settings, task_of(data))
    command = _command("train", data, recipe, settings, seed) + reading_words(reading)
    work = work_folder(place)
    with begun(work, resume):
        return train_on(
            load_data(data, **(reading or {})),
            plan,
            place,
            resume=resume,
            seed=seed,
            command=command,
            encodings=None if encodings is None else Path(encodings),
            overwrite=overwrite,
        )


def train_on(
    data: RetrievalData,
    recipe: Recipe,
    output: Path,
    *,
    seed: int,
    command: str,
    resume: bool = False,
    encodings: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """`train` on data that is loaded already."""
    output = check_output(output, overwrite=overwrite or resume)
    work = work_folder(output)
    with begun(work, resume), disk_named(work), memory_named():
        return _train_in(work, data, recipe, output, seed, command, resume, encodings, overwrite)


def _train_in(
    work: Path,
    data: RetrievalData,
    recipe: Recipe,
    output: Path,
    seed: int,
    command: str,
    resume: bool,
    encodings: Path | None,
    overwrite: bool,
) -> dict[str, Any]:
    """`train_on` in the folder of the run."""
    began = time.perf_counter()
    # The arguments bring several processes together, so they come before the first file.
    args = arguments(work, seed)
    last = _last_stage_on_ids(recipe)
    known = known_rows(data, recipe.new_documents, seed)
    seen = _seen(data, recipe, known)
    start = build(recipe, seen, seed=seed)
    if not recipe.stages:
        raise ConfigError(f"recipe '{recipe.name}' has no stage that trains anything.")
    if recipe.task != "text":
        decided = recipe.search.exclude_history is None
        note_repeats(data, data.splits, start.data.exclude_history, decided)
    prepare(work, resume, identity(data, recipe, seed), overwrite=overwrite)
    learns = any("encoder" in stage.train for stage in recipe.stages)
    if learns and start.tokenizer is not None and is_main():
        save_untrained(start.model, work / _BESIDE)
    trainer = GenRetTrainer(
        start.model,
        args,
        data=start.data,
        stages=recipe.stages,
        processing_class=start.tokenizer,
        encodings=encodings,
    )
    trainer.train(resume_from_checkpoint=True)
    model = start.model
    lora = take_lora(model)
    merge_lora(model)
    vectors = pooled_vectors(model, start.data.items)
    model.set_index(*trainer.run.ids(), vectors=vectors)
    _choose_beam_weight(start, recipe)
    for ids in recipe.controls:
        assert last is not None
        folder = work / f"control-{ids}"
        control = train_control(model, ids, arguments(folder, seed), start.data, last)
        if is_main():
            save_control(control, work / _BESIDE, ids)
    if len(start.data.items) < len(data.documents):
        codes, rows, vectors = code_new(model, start.tokenizer, data, known, trainer.run.ids())
        model.set_index(codes, rows, vectors=vectors)
    distributions = recorded(trainer.run.log, start.data, seen.documents)
    report = make_report(
        data,
        "dev",
        command,
        seed,
        trainer.run.earlier + time.perf_counter() - began,
        {},
        extra={
            "method": recipe.name,
            "recipe": recipe.settings,
            "schedule": [stage.facts() for stage in recipe.stages],
            "stages": trainer.run.log,
            "training": _facts(seen, start),
            "warnings": [found for stage in trainer.run.log for found in stage["warnings"]],
            "distributions": distributions,
        },
    )
    if is_main():
        if not known.all():
            new = [data.documents.ids[row] for row in np.flatnonzero(~known)]
            atomic_write_text(work / _BESIDE / NEW_FILE, json.dumps(new) + "\n")
        facts = {
            "seed": report["seed"],
            "data": report["data"],
            "command": report["command"],
            "exclude_history": start.data.exclude_history,
        }
        if lora is not None:
            found = GenRetriever(model, start.tokenizer, data.documents)
            save_adapter(work / _BESIDE / adapters.FOLDER, found, lora, _base(recipe), facts)
        _publish(start, data, output, work, report, facts)
    wait()
    return report


def evaluate_checkpoint(
    checkpoint: str | Path,
    data: str | Path | RetrievalData,
    split: str = "test",
    systems: Sequence[str] | None = None,
    *,
    vectors: str | None = None,
    command: str | None = None,
    seed: int = 0,
    reading: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure a checkpoint and its baselines on a split.

    Args:
        checkpoint: Folder or Hub name.
        data: Data whose documents are the checkpoint's.
        split: Which queries.
        systems: Names in `hf_genret.evaluation.report.SYSTEMS`; all available by default.
        vectors: Precision of the ranker's vectors, as `GenRetriever.compress_vectors` takes it;
            as they are by default.
        command: Stands in the report; made from the other arguments by default.
        seed: Of intervals and the random ranking.
        reading: Arguments of `load_data`, for data that is not loaded yet.

    Returns:
        The report.
    """
    began = time.perf_counter()
    retriever = GenRetriever.from_pretrained(str(checkpoint))
    if vectors is not None:
        retriever.compress_vectors(vectors)
    loaded = data if isinstance(data, RetrievalData) else load_data(data, **(reading or {}))
    loaded = same_corpus(loaded, retriever.documents)
    folder = Path(checkpoint) if Path(checkpoint).is_dir() else None
    exclude = bool(retriever.facts.get("exclude_history", False))
    if exclude:
        measured = {split: loaded.split(split)}
        note_repeats(loaded, measured, exclude, decided=False)
    bench = Bench(retriever, folder, loaded, split, exclude_history=exclude, seed=seed)
    found = bench.evaluate_all(None if systems is None else list(systems))
    extra: dict[str, Any] = {
        "index": bench.index_facts(
            {name: entry["documents_ranked"] for name, entry in found.items()}
        )
    }
    if exclude:
        # The other convention beside it: nothing is left out, as in TIGER's tables.
        other = Bench(retriever, folder, loaded, split, exclude_history=False, seed=seed)
        extra["history_not_excluded"] = other.evaluate_all([n for n in found if n != "random"])
    retriever.state.check_stands()  # the controls in its folder are opened late
    name = str(data) if isinstance(data, str) and is_built_in(data) else "DATA"
    line = command or f"hf-genret evaluate CHECKPOINT {name} --split {split}"
    if command is None:
        line += f" --vectors {vectors}" if vectors is not None else ""
        line += reading_words(reading)
    seconds = time.perf_counter() - began
    report = make_report(loaded, split, line, seed, seconds, found, extra=extra)
    report["data"]["texts"] = texts_digest(retriever.documents)  # tells a card whose figures it has
    return report


def quickstart(output: str | Path, seed: int = 0, overwrite: bool = False) -> dict[str, Any]:
    """Train on the standard library's documentation, evaluate, and search it thrice."""
    began = time.perf_counter()
    check_output(output, overwrite=overwrite)
    data = stdlib_data(seed=seed)
    command = f"hf-genret quickstart --seed {seed}"
    trained = train_on(
        data,
        load_recipe("quickstart"),
        Path(output),
        seed=seed,
        command=command,
        overwrite=overwrite,
    )
    systems = ["generative", "kmeans", "bm25", "dense", "random"]
    report = evaluate_checkpoint(output, data, "test", systems, command=command, seed=seed)
    report |= {"seed": seed, "stages": trained["stages"], "seconds": time.perf_counter() - began}
    retriever = GenRetriever.from_pretrained(str(output))
    retriever.save_pretrained(output, report=report)
    report["searches"] = [_example(retriever, query) for query in _EXAMPLES]
    return report


def task_of(data: str | Path) -> str:
    """The kind of data, for recipes that do not fix it: `sequential` or `text`."""
    return "sequential" if is_interactions(Path(data)) else "text"


_BESIDE = "beside"  # in the run's folder: what becomes part of the checkpoint beside the model
_EXAMPLES = ["join two paths", "parse a date string", "run a command in a subprocess"]


def _example(retriever: GenRetriever, query: str) -> dict[str, Any]:
    hits = [
        {"id": hit.id, "score": hit.score, "docid": list(hit.docid), "title": hit.document["title"]}
        for hit in retriever.search(query, k=3)
    ]
    return {"query": query, "hits": hits}


def _seen(data: RetrievalData, recipe: Recipe, known: np.ndarray) -> RetrievalData:
    """What training sees of the data.

    Raises:
        ConfigError: When documents shall be new to a model that knows items by their number.
    """
    wish = recipe.new_documents
    if known.all():
        return data
    if wish.queries:
        return without_labels(data, known)
    if recipe.task != "text" or recipe.controls:
        raise ConfigError(
            "new_documents needs a text recipe and no controls (controls=[]): "
            "only documents that are read can be coded later."
        )
    if recipe.ids.partition(":")[0] in PLACES:
        raise ConfigError(
            f"ids={recipe.ids} has an id for every document, also for those that new_documents "
            "hides; take ids that are made in training, or set new_documents.queries=true."
        )
    return without_documents(data, known)


def _last_stage_on_ids(recipe: Recipe) -> Stage | None:
    """The stage that trains the decoder on its final ids, and controls on theirs."""
    stages = [stage for stage in recipe.stages if OBJECTIVES[stage.objective].searches]
    if recipe.controls and not stages:
        raise ConfigError("controls need a stage that trains on final ids (cross_entropy).")
    if recipe.controls and ids_each(recipe) > 1:
        raise ConfigError(
            "controls have one id a document and share the model's settings; leave them out "
            "(controls=[]) where documents own several."
        )
    return stages[-1] if stages else None


def _base(recipe: Recipe) -> Base:
    """What low-rank matrices of this recipe stand on."""
    name = recipe.start_from or recipe.encoder
    if Path(name).expanduser().is_dir():
        name = str(Path(name).expanduser().resolve())
    return Base("checkpoint" if recipe.start_from else "encoder", name)


def _choose_beam_weight(start: Start, recipe: Recipe) -> None:
    """Dev chooses how much the beam's log-probability counts beside the ranker's score."""
    if start.dev is None or start.model.index.num_nodes[-1] == 1:
        return  # nothing to choose by, or nothing to choose
    dev = start.dev
    results = {}
    for weight in recipe.search.beam_weights:
        start.model.config.beam_weight = float(weight)
        run = search_dataset(
            start.model,
            start.tokenizer,
            dev,
            k=10 + 1,  # one may be left out
            exclude_history=start.data.exclude_history,
            source=start.data.dev,
        )
        if start.data.dev_own is not None:
            run = leave_own_out(run, start.data.dev_own)
        results[float(weight)] = float(np.nanmean(per_query(run, dev, (10,))["ndcg@10"]))
    best = max(results, key=lambda weight: (results[weight], -weight))
    start.model.config.beam_weight = main_says(best)


def _facts(data: RetrievalData, start: Start) -> dict[str, Any]:
    """What training saw, with the condition of URI's Theorem 1 for its pairs."""
    pairs, queries = len(start.data.pair_query), len(start.data.train)
    facts: dict[str, Any] = {
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "queries": queries,
        "pairs": pairs,
        "own_queries": len(data.splits.get("train", ())),
        "beam_weight": start.model.config.beam_weight,
        "beams": start.model.default_beams(),
        "codebook_sizes": start.model.config.codebook_sizes,
    }
    facts["theorem_1"] = theorem1_report(
        pairs,
        queries,
        len(data.documents),
        max(start.model.config.codebook_sizes),
        levels=start.model.config.num_levels - start.model.config.forest,
    )
    return facts


def _publish(
    start: Start,
    data: RetrievalData,
    output: Path,
    work: Path,
    report: dict[str, Any],
    facts: dict[str, Any],
) -> None:
    """Save the checkpoint with its controls, then drop the run's folder."""
    retriever = GenRetriever(start.model, start.tokenizer, data.documents)
    parts = ("method", "recipe", "schedule", "stages", "training", "warnings", "seconds")
    training = {key: report[key] for key in (*parts, "distributions")}
    extras = work / _BESIDE
    atomic_write_text(extras / TRAINING_FILE, json.dumps(training, indent=1) + "\n")
    retriever.save_pretrained(output, extra_manifest=facts, beside=extras)
    shutil.rmtree(work, ignore_errors=True)


def reading_words(reading: Mapping[str, Any] | None) -> str:
    """What a command says of how its data is read, with a space before it; empty by default."""
    chosen = reading or {}
    columns = ",".join(f"{k}={v}" for k, v in (chosen.get("corpus_field_map") or {}).items())
    words = ["--columns", columns] if columns else []
    words += [f"--{name}" for name in ("streaming", "strict") if chosen.get(name)]
    return "".join(f" {word}" for word in map(shlex.quote, words))


def _command(verb: str, data: str | Path, recipe: str, settings: Sequence[str], seed: int) -> str:
    """The command as a report states it, DATA and ENCODER in place of paths."""
    line = ["hf-genret", verb, str(data), "--recipe", recipe, "--seed", str(seed)]
    replacements = {} if is_built_in(data) else {str(data): "DATA"}
    for setting in settings:
        line += ["--set", shown_setting(setting)]
    return scrub_command(line, replacements)

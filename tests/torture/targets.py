"""What is written and read back: good folders of every kind, and the readers that get bad ones."""

from __future__ import annotations

import copy
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent


@cache
def helpers() -> Any:
    """The small corpora and models of the tests of training."""
    spec = importlib.util.spec_from_file_location("small", HERE.parent / "training/conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Target:
    """A kind of folder.

    Attributes:
        make: Fills an empty folder with a good one.
        read: Reads it, and raises where it is not what it was although it was taken.
        spare: Endings of files that are not spoiled.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], None]
    spare: tuple[str, ...] = ()


def _retriever(lora: int = 0, encoder: str = "bag") -> tuple[Any, Any]:
    """An untrained retriever with random ids, and the recipe it is built of."""
    from hf_genret.encoding import pooled_vectors
    from hf_genret.training.build import build
    from hf_genret.training.recipes import load_recipe

    small = ["bag={vocab_size: 200, dim: 16}", "model.decoder_dim=16", "queries.pseudo=0"]
    recipe = load_recipe("fixed", [*small, f"encoder={encoder}", f"lora.r={lora}"])
    data = helpers().text_data(30, 10)
    start = build(recipe, data, seed=0)
    sizes = start.model.config.codebook_sizes
    rng = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(k, (30,), generator=rng) for k in sizes], dim=1)
    start.model.set_index(codes, vectors=pooled_vectors(start.model.eval(), start.data.items))
    return start, data


def make_checkpoint(folder: Path) -> None:
    from hf_genret.retriever import GenRetriever

    start, data = _retriever()
    GenRetriever(start.model, start.tokenizer, data.documents).save_pretrained(folder)


def read_checkpoint(folder: Path) -> None:
    from hf_genret.retriever import GenRetriever

    found = GenRetriever.from_pretrained(folder, device="cpu")
    found.search(["one two", "three"], k=3)
    found.docids_of([found.documents.id_of(0)]) if hasattr(found, "docids_of") else None


def make_adapter(folder: Path) -> None:
    from hf_genret.adapters import Base, merge_lora, save_adapter, take_lora
    from hf_genret.retriever import GenRetriever

    encoder = folder.with_name(folder.name + "-encoder")
    if not encoder.is_dir():
        helpers().write_encoder(encoder)
    start, data = _retriever(4, str(encoder))
    lora = take_lora(start.model)
    merge_lora(start.model)
    assert lora is not None
    found = GenRetriever(start.model, start.tokenizer, data.documents)
    save_adapter(folder, found, lora, Base("encoder", str(encoder)), {"seed": 0})


def make_control(folder: Path) -> None:
    from hf_genret.training.controls import save_control

    start, _ = _retriever()
    save_control(start.model, folder, "kmeans")


@cache
def _of_control() -> Any:
    return _retriever()[0]


def read_control(folder: Path) -> None:
    from hf_genret.training.controls import load_control

    start = _of_control()
    control = load_control(start.model, folder, "kmeans")
    words = start.tokenizer(["one two"], return_tensors="pt")
    control.search(**{n: words[n] for n in ("input_ids", "attention_mask")}, k=3)


def _run() -> Any:
    from hf_genret.evaluation import Run

    rows = [np.asarray([3, 1, 2]), np.asarray([0]), np.asarray([5, 4])]
    leaves = [[row[:1], row[1:]] for row in rows]
    scores = [np.linspace(1, 0, len(row)) for row in rows]
    return Run("uri", rows=rows, scores=scores, pools=rows, buckets=leaves)


def make_kept(folder: Path) -> None:
    from hf_genret.training.compare.kept import save_measured

    save_measured(folder / "uri", _run(), {"recall": 0.5, "costs": {"s": 1}}, {"seed": 0})


def read_kept(folder: Path) -> None:
    from hf_genret.training.compare.kept import load_measured

    found = load_measured(folder / "uri", {"seed": 0})
    if found is not None:
        run, facts = found
        assert facts == {"recall": 0.5, "costs": {"s": 1}}
        assert all(np.array_equal(a, b) for a, b in zip(run.rows, _run().rows, strict=True))


_VALUES = {"ndcg@10": np.linspace(0, 1, 7, dtype=np.float32)}


def make_cell(folder: Path) -> None:
    from hf_genret.training.study.cells import save_cell

    save_cell(folder, {"identity": "a" * 16, "factor": "dim", "metrics": {"x": 1.0}}, _VALUES)


def read_cell(folder: Path) -> None:
    from hf_genret.training.study.cells import load_cell

    found = load_cell(folder, "a" * 16)
    if found is not None:
        assert found[0]["metrics"] == {"x": 1.0} and found[0]["factor"] == "dim"
        assert np.array_equal(found[1]["ndcg@10"], _VALUES["ndcg@10"])


@cache
def _encoded() -> Any:
    from hf_genret.encoding import ItemSource, backbone_vectors

    model, tokenizer = helpers().tiny_model(helpers().text_data(20, 5))
    source = ItemSource(model.eval(), helpers().text_data(20, 5).documents, tokenizer)
    return model, source, backbone_vectors(model, source)


def make_vectors(folder: Path) -> None:
    read_vectors(folder)


def read_vectors(folder: Path) -> None:
    from hf_genret.kept_vectors import kept_vectors

    model, source, expected = _encoded()
    assert torch.equal(kept_vectors(model, source, folder), expected)


def _stages() -> list[dict[str, Any]]:
    stages = copy.deepcopy(helpers().STAGES[:2])
    for stage in stages:
        stage["epochs"] = 1
    return stages


class _Stop(Exception):
    """Ends a run in the middle."""


def make_state(folder: Path) -> None:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                raise _Stop

    trainer = helpers().make_trainer(folder, _stages(), save_steps=1, callbacks=[Stop()])
    try:
        trainer.train(resume_from_checkpoint=True)
    except _Stop:
        return
    raise AssertionError("the run was not stopped")


def read_state(folder: Path) -> None:
    trainer = helpers().make_trainer(folder, _stages(), save_steps=500)
    trainer.train(resume_from_checkpoint=True)


_IDENTITY = {"data": "0" * 16, "seed": 0, "recipe": {"a": [1, 2]}}


def make_run(folder: Path) -> None:
    from hf_genret.training.run_folder import prepare

    prepare(folder, False, _IDENTITY)


def read_run(folder: Path) -> None:
    from hf_genret.training.run_folder import prepare

    prepare(folder, True, _IDENTITY)


def make_records(folder: Path) -> None:
    """training.json and report.json as the commands write them."""
    from hf_genret.training import api

    data = helpers().write_text(folder / "data", helpers().text_data(40, 10))
    settings = ["bag={vocab_size: 200, dim: 16}", "model.decoder_dim=16", "queries.pseudo=1"]
    names = ("encoder", "final", "ranker")
    settings += [f"stages.{name}.max_steps=1" for name in names]
    out = folder / "out"
    api.train(data, "fixed", out, [*settings, "search.beam_weights=[0.0]", "controls=[]"])
    from hf_genret.evaluation import write_report

    write_report(api.evaluate_checkpoint(out, data, "test"), out / "report.json")
    (out / "manifest.json").unlink()
    shutil.rmtree(data)
    keep = ("training.json", "report.json")
    (folder / "model").mkdir()
    for path in out.iterdir():
        path.rename((folder if path.name in keep else folder / "model") / path.name)
    out.rmdir()


def read_records(folder: Path) -> None:
    from hf_genret.errors import CheckpointError
    from hf_genret.hub.card import read_report, render_card
    from hf_genret.hub.card_file import load_report
    from hf_genret.plotting import read_distributions

    found = _of_records(str(folder.parent / "records-model"), str(folder / "model"))
    found.folder = folder
    refused = None
    for read in (
        lambda: render_card(found, read_report(folder)),
        lambda: render_card(found, load_report(folder / "report.json", found)),
        lambda: read_distributions(folder),
    ):
        try:
            read()
        except CheckpointError as error:
            refused = error
    if refused is not None:
        raise refused


@cache
def _of_records(place: str, source: str) -> Any:
    from hf_genret.retriever import GenRetriever

    del place
    return GenRetriever.from_pretrained(source, device="cpu")


def make_recipes(folder: Path) -> None:
    from hf_genret.training.recipes import FOLDER

    for path in FOLDER.glob("*.yaml"):
        shutil.copyfile(path, folder / path.name)


def read_recipes(folder: Path) -> None:
    from hf_genret.errors import GenRetError
    from hf_genret.training.recipes import load_recipe

    refused = None
    for path in sorted(folder.glob("*.yaml")):
        try:
            load_recipe(str(path))
            load_recipe(str(path), task="sequential")
        except GenRetError as error:
            refused = error
    if refused is not None:
        raise refused


WEIGHTY = (".py", ".md")
TARGETS: dict[str, Target] = {
    "checkpoint": Target(make_checkpoint, read_checkpoint, WEIGHTY),
    "adapter": Target(make_adapter, read_checkpoint, WEIGHTY),
    "control": Target(make_control, read_control),
    "kept run": Target(make_kept, read_kept),
    "cell": Target(make_cell, read_cell),
    "kept vectors": Target(make_vectors, read_vectors),
    "state of a run": Target(make_state, read_state),
    "run.json": Target(make_run, read_run),
    "records": Target(make_records, read_records, (".py", ".parquet", "model.safetensors")),
    "recipe": Target(make_recipes, read_recipes),
}

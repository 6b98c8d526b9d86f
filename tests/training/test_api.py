"""Train, checkpoint, evaluate: the path behind the commands."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret import GenRetriever
from hf_genret.data import Queries, RetrievalData, load_data
from hf_genret.errors import CheckpointError, ConfigError, DataError, DataWarning
from hf_genret.indexing import hierarchical_kmeans
from hf_genret.training import api, given, stage_actions
from hf_genret.training.build import build
from hf_genret.training.controls import load_control
from hf_genret.training.dev import _exclusions
from hf_genret.training.recipes import list_recipes, load_recipe
from hf_genret.training.runs import row_codes
from hf_genret.training.systems import Bench, aligned

TEXT = [
    "bag={vocab_size: 500, dim: 32}",
    "model.decoder_dim=32",
    "queries.pseudo=2",
    "search.beam_weights=[0.0, 0.1]",
]
ITEMS = ["items={dim: 32, feature_dim: 16, layers: 1}", "model.decoder_dim=32"]
STEPS = {"encoder": 8, "ranker": 8, "level-1": 6, "level-2": 6, "em": 6, "final": 12}


def short(recipe: str, *settings: str, task: str | None = None) -> list[str]:
    """Few steps of every stage, small batches and widths."""
    plan = load_recipe(recipe, task=task)
    out = list(TEXT if plan.task == "text" else ITEMS)
    for stage in plan.stages:
        out += [
            f"stages.{stage.name}.max_steps={STEPS.get(stage.name, 6)}",
            f"stages.{stage.name}.batch_size=64",
            f"stages.{stage.name}.evaluations=2",
        ]
    if plan.task != "text":  # nothing was known of the items before
        out += ["stages.ranker.max_steps=40", "stages.ranker.learning_rate=5e-3"]
    if plan.task != "text" and plan.ids != "none":  # parents with more items than codes
        out += ["model.codebook_sizes=[8, 8]", f"search.beams={20 if plan.position_code else 6}"]
    if plan.position_code:  # heads that start at nothing, and an id for every document
        out += ["stages.final.max_steps=40", "stages.final.learning_rate=5e-3"]
    return [*out, *settings]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, text_folder) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of `uri` on 200 documents, and the report of its training."""
    out = tmp_path_factory.mktemp("trained") / "out"
    return out, api.train(text_folder, "uri", out, short("uri"), seed=1)


@pytest.fixture(scope="module")
def evaluated(trained, text_folder) -> dict[str, Any]:
    """Its report on test, every system."""
    return api.evaluate_checkpoint(trained[0], text_folder)


def ndcg(report: dict[str, Any], system: str) -> float:
    return report["systems"][system]["metrics"]["ndcg@10"]["mean"]


# ---- the checkpoint -----------------------------------------------------------------------


def test_a_checkpoint_is_whole(trained):
    """Manifest, facts of the training, controls; nothing is left of the run."""
    out, report = trained
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 1 and manifest["command"] == report["command"]
    assert (out / "baselines" / "kmeans.safetensors").is_file()
    training = json.loads((out / "training.json").read_text())
    assert training["recipe"] == json.loads(json.dumps(report["recipe"]))
    assert [stage["stage"] for stage in training["stages"]][-1] == report["stages"][-1]["stage"]
    assert not out.with_name("out.run").exists()
    assert not [path for path in out.parent.iterdir() if path != out]


def test_the_training_report(trained):
    """One shape: data, split, command without paths, seed, seconds, what training saw."""
    _, report = trained
    assert report["command"].startswith("hf-genret train DATA --recipe uri --seed 1 --set ")
    assert {"data", "split", "versions", "seconds", "systems"} <= set(report)
    facts = report["training"]
    assert facts["processes"] == 1 and facts["own_queries"] == 60
    assert facts["pairs"] >= facts["queries"] > 200
    assert {"level_1", "leaf"} <= set(facts["theorem_1"])
    by_name = {stage["stage"]: stage for stage in report["stages"]}
    assert {"displaced", "codes_used", "changed_from_start"} <= set(by_name["level-1"])
    assert all("history" in stage for stage in report["stages"])
    json.dumps(report)


def test_no_level_is_empty(trained):
    """Capacity is exact at every node of what was saved."""
    retriever = GenRetriever.from_pretrained(trained[0], device="cpu")
    codes, sizes = row_codes(retriever.model), retriever.model.config.codebook_sizes
    nodes = np.zeros(200, dtype=np.int64)
    for level, size in enumerate(sizes):
        nodes = nodes * size + codes[:, level]
        loads = np.bincount(nodes, minlength=int(np.prod(sizes[: level + 1])))
        below = 200 // len(loads)
        assert set(loads.tolist()) <= {below, below + 1}


def test_the_report_on_test(evaluated):
    """Every system that makes sense, with intervals, pools, and facts of the ids."""
    assert set(evaluated["systems"]) == {
        *("generative", "kmeans", "dense", "dense_untrained", "bm25", "random")
    }
    for entry in evaluated["systems"].values():
        figures = entry["metrics"]["ndcg@10"]
        assert figures["low"] <= figures["mean"] <= figures["high"]
        assert {"documents_ranked", "latency_ms", "bytes"} <= set(entry)
    generative = evaluated["systems"]["generative"]
    assert generative["documents_ranked"] == 200  # so few are searched whole
    assert "every leaf visited (200 documents), 64 queries at once" in generative["notes"]
    assert evaluated["systems"]["dense"]["documents_ranked"] == 200
    assert set(evaluated["index"]) == {"generative", "kmeans"}
    assert "ape" in evaluated["index"]["generative"]
    losses = evaluated["index"]["generative"]["query_loss"]
    assert len(losses) == 2 and all(level["loss"] < level["even"] for level in losses)
    assert evaluated["command"].startswith("hf-genret evaluate CHECKPOINT DATA")
    json.dumps(evaluated)


def test_it_beats_random(evaluated):
    """By far: the corpus is easy."""
    assert ndcg(evaluated, "generative") > 5 * ndcg(evaluated, "random")


def test_systems_by_wish(trained, text_folder):
    """Only those; an unknown one is a sentence."""
    report = api.evaluate_checkpoint(trained[0], text_folder, systems=["dense"])
    assert list(report["systems"]) == ["dense"]
    free = api.evaluate_checkpoint(trained[0], text_folder, systems=["unconstrained"])
    assert 0 <= free["systems"]["unconstrained"]["facts"]["invalid_ids"] <= 1
    with pytest.raises(ConfigError, match="Unknown system 'dens'; known: "):
        api.evaluate_checkpoint(trained[0], text_folder, systems=["dens"])


def test_less_exact_vectors_are_measured_too(trained, text_folder, evaluated):
    """The loss can be seen before it is taken; the command says what was measured."""
    report = api.evaluate_checkpoint(
        trained[0], text_folder, systems=["generative"], vectors="int8"
    )
    assert report["command"].endswith("--vectors int8")
    assert ndcg(report, "generative") == pytest.approx(ndcg(evaluated, "generative"), abs=0.02)


def test_a_control_is_the_same_model_with_other_ids(trained):
    """A decoder of its own on balanced k-means ids; encoder and vectors are the model's."""
    out, _ = trained
    retriever = GenRetriever.from_pretrained(out, device="cpu")
    control = load_control(retriever.model, out, "kmeans")
    vectors, sizes = retriever.model.vectors.numpy(), retriever.model.config.codebook_sizes
    ids = hierarchical_kmeans(vectors, sizes, seed=1, cosine=True)
    assert np.array_equal(row_codes(control), ids)
    assert not torch.equal(control.decoder.memory.weight, retriever.model.decoder.memory.weight)
    for name, value in retriever.model.encoder.state_dict().items():
        assert torch.equal(control.encoder.state_dict()[name], value)
    assert torch.equal(control.vectors, retriever.model.vectors)
    with pytest.raises(CheckpointError, match="no control 'rq'"):
        load_control(retriever.model, out, "rq")


def test_a_control_reloads_as_it_was_in_memory(tmp_path, small_folder, monkeypatch):
    """Its hits from the checkpoint are those it had when it was trained."""
    kept: list[Any] = []
    real = api.save_control

    def save(control, *args):
        kept.append(control)
        real(control, *args)

    monkeypatch.setattr(api, "save_control", save)
    api.train(small_folder, "uri", tmp_path / "out", short("uri"))
    retriever = GenRetriever.from_pretrained(tmp_path / "out", device="cpu")
    data = load_data(small_folder)
    bench = Bench(retriever, tmp_path / "out", data, "test", exclude_history=False)
    again = bench._control("kmeans")
    kept[0].config.beam_weight = retriever.model.config.beam_weight
    there = bench._search(kept[0].eval(), "kmeans")
    for a, b in zip(again.rows, there.rows, strict=True):
        assert a.tolist() == b.tolist()


# ---- other data ---------------------------------------------------------------------------


def test_a_reordered_corpus_is_aligned(trained, text_folder):
    """Rows, judgments and histories follow the checkpoint's order; figures stay."""
    data = load_data(text_folder)
    order = np.random.default_rng(0).permutation(200)
    place = {int(row): new for new, row in enumerate(order)}
    splits = {
        name: type(queries)(
            queries.ids,
            [{place[row]: gain for row, gain in gains.items()} for gains in queries.relevant],
            queries.texts,
            [np.asarray([place[row] for row in gains]) for gains in queries.relevant],
        )
        for name, queries in data.splits.items()
    }
    shuffled = RetrievalData("tiny", "1", data.documents.take(order), splits)
    back = aligned(shuffled, data.documents.ids)
    assert back.documents.ids == data.documents.ids
    assert back.documents.texts == data.documents.texts
    for name, queries in data.splits.items():
        assert back.splits[name].relevant == queries.relevant
        histories = [history.tolist() for history in back.splits[name].histories]
        assert histories == [list(gains) for gains in queries.relevant]
    systems = ["generative", "dense"]
    first = api.evaluate_checkpoint(trained[0], data, systems=systems)
    second = api.evaluate_checkpoint(trained[0], back, systems=systems)
    assert ndcg(first, "generative") == ndcg(second, "generative")


def test_another_corpus_is_refused(trained, small_folder):
    """One sentence says what to do."""
    with pytest.raises(DataError, match=r"holds 80 documents and the checkpoint 200.*index this"):
        api.evaluate_checkpoint(trained[0], small_folder)


def test_the_same_ids_with_other_texts_are_refused(trained, text_folder):
    """Counted, with the first one's id; white space and the border of title and text are free."""
    data = load_data(text_folder)
    documents = data.documents
    spaced = [f" {text.replace(' ', '  ')}" for text in documents.texts]
    data.documents = replace(documents, titles=[*documents.titles], texts=spaced)
    api.evaluate_checkpoint(trained[0], data, systems=["random"])
    other = [*documents.texts[:150], *reversed(documents.texts[150:])]
    data.documents = replace(documents, texts=other)
    message = rf"50 of 200 documents have another text .* the first is '{documents.ids[150]}'"
    with pytest.raises(DataError, match=message):
        api.evaluate_checkpoint(trained[0], data, systems=["random"])


def test_queries_that_are_documents_do_not_find_themselves(trained, text_folder):
    """Every system is measured without them, down to rank 100, and each row says so."""
    data = load_data(text_folder)
    documents = data.documents
    queries = Queries(documents.ids[:20], [{row + 1: 1.0} for row in range(20)], documents.titles)
    data.splits["test"] = replace(queries, texts=[documents.full_text(row) for row in range(20)])
    retriever = GenRetriever.from_pretrained(trained[0])
    bench = Bench(retriever, trained[0], data, "test", exclude_history=False)
    for name, found in bench.evaluate_all(["generative", "dense", "bm25", "random"]).items():
        assert "the documents that 20 queries are themselves left out" in found["notes"], name
    data.splits["test"] = replace(queries, texts=[f"What is {n}?" for n in range(20)])
    accident = Bench(retriever, trained[0], data, "test", exclude_history=False)
    assert not any("themselves" in note for note in accident.evaluate("random")["notes"])


def test_dev_measures_what_evaluate_measures(text_folder):
    """A dev query that is a document does not find itself in training either."""
    data = load_data(text_folder)
    documents = data.documents
    texts = [documents.full_text(row) for row in range(20)]
    data.splits["dev"] = Queries(documents.ids[:20], [{19: 1.0}] * 20, texts)
    start = build(load_recipe("fixed", ["controls=[]"]), data, seed=0)
    excluded = _exclusions(start.data, np.arange(20))
    assert excluded[:, -1].tolist() == [*range(19), -1]  # the last one is relevant for itself


@pytest.fixture(scope="module")
def habits(tmp_path_factory):
    """Users who take the same three items again and again."""
    folder = tmp_path_factory.mktemp("habits")
    items = [{"item_id": f"i{n}", "title": f"item {n}"} for n in range(30)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    lines = [
        f"u{n}\t" + " ".join(f"i{n % 10 * 3 + step % 3}" for step in range(9)) for n in range(40)
    ]
    (folder / "sequences.tsv").write_text("user_id\titem_ids\n" + "\n".join(lines) + "\n")
    return folder


def test_what_users_take_again_can_be_found(habits, tmp_path):
    """Histories are not left out, training learns, and reports and stderr say why."""
    settings = short("uri-sequential", task="sequential")
    with pytest.warns(DataWarning, match="test: 40 of 40 targets stand in their own history"):
        report = api.train(habits, "uri-sequential", tmp_path / "out", settings)
    assert any("histories are therefore not left out" in note for note in report["data"]["notes"])
    retriever = GenRetriever.from_pretrained(tmp_path / "out")
    assert retriever.facts["exclude_history"] is False
    assert "i1" in [hit.id for hit in retriever.recommend(["i1", "i2"], k=30)]
    assert "i1" not in [h.id for h in retriever.recommend(["i1"], k=30, exclude_history=True)]
    found = api.evaluate_checkpoint(tmp_path / "out", habits, systems=["cooccurrence", "dense"])
    assert ndcg(found, "cooccurrence") > 0.5


def test_a_wish_to_leave_histories_out_holds_and_is_said(habits, tmp_path):
    """In training and in evaluation: so many targets that can never be found."""
    settings = [*short("uri-sequential", task="sequential"), "search.exclude_history=true"]
    message = "test: 40 of 40 targets .* cannot be found, since histories are left out"
    with pytest.warns(DataWarning, match=message):
        api.train(habits, "uri-sequential", tmp_path / "out", settings)
    with pytest.warns(DataWarning, match=message):
        found = api.evaluate_checkpoint(tmp_path / "out", habits, systems=["popularity"])
    assert ndcg(found, "popularity") == 0
    assert any("cannot be found" in note for note in found["data"]["notes"])


def test_a_text_recipe_refuses_to_leave_histories_out():
    """It would be ignored by a search."""
    with pytest.raises(ConfigError, match="exclude_history is for recipes that read"):
        load_recipe("uri", ["search.exclude_history=true"])


def test_a_split_that_is_not_there(trained, text_folder):
    """One sentence."""
    with pytest.raises(DataError, match="has no 'final' queries"):
        api.evaluate_checkpoint(trained[0], text_folder, "final")


# ---- runs that end badly ------------------------------------------------------------------


class Killed(RuntimeError):
    """Stands for a signal."""


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


def test_an_interrupted_run_goes_on(tmp_path, small_folder, monkeypatch):
    """Killed in an assignment, again in a control, again before publishing: the same files."""
    settings = short("uri")
    api.train(small_folder, "uri", tmp_path / "whole", settings)
    real = stage_actions.ACTIONS["reassign"]

    def fail(*_: Any, **__: Any) -> None:
        raise Killed

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setitem(stage_actions.ACTIONS, "reassign", lambda *a: [real(*a), fail()])
        with pytest.raises(Killed):
            api.train(small_folder, "uri", out, settings)
    for name in ("save_control", "_publish"):
        with monkeypatch.context() as patch:
            patch.setattr(api, name, fail)
            with pytest.raises(Killed):
                api.train(small_folder, "uri", out, settings, resume=True)
        assert not out.exists()
    api.train(small_folder, "uri", out, settings, resume=True)
    whole, found = files_of(tmp_path / "whole"), files_of(out)
    assert found.keys() == whole.keys() and len(whole) >= 3
    assert [name for name in whole if whole[name] != found[name]] == []
    assert not out.with_name("out.run").exists()


def test_resuming_another_run_is_refused(tmp_path, small_folder, text_folder, monkeypatch):
    """Recipe, seed and data have to be those of before; without a run there is nothing to do."""
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="holds no interrupted run to resume"):
        api.train(small_folder, "uri", out, short("uri"), resume=True)
    with monkeypatch.context() as patch:
        patch.setitem(stage_actions.ACTIONS, "clusters", lambda *a: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            api.train(small_folder, "uri", out, short("uri"))
    other = short("uri", "stages.final.epochs=9")
    for data, settings, seed, what in [
        (small_folder, other, 0, "recipe"),
        (small_folder, short("uri"), 5, "seed"),
        (text_folder, short("uri"), 0, "data"),
    ]:
        with pytest.raises(CheckpointError, match=f"had another {what}; resume it with the same"):
            api.train(data, "uri", out, settings, resume=True, seed=seed)


def test_a_mistake_leaves_an_interrupted_run_alone(tmp_path, small_folder):
    """A recipe or data that cannot be used is refused before anything is removed."""
    work = tmp_path / "out.run"
    work.mkdir()
    (work / "precious").touch()
    with pytest.raises(ConfigError):
        api.train(small_folder, "uri", tmp_path / "out", ["levles=2"])
    with pytest.raises(ConfigError, match="Use uri"):
        api.train(small_folder, "uri-sequential", tmp_path / "out")
    with pytest.raises(ConfigError, match="controls need a stage that trains on final ids"):
        api.train(small_folder, "uri", tmp_path / "out", ["stages=[]"])
    assert (work / "precious").is_file()


def test_a_place_that_cannot_be(tmp_path, small_folder, monkeypatch):
    """A file, or the working folder: said before the training."""
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file; a folder for the checkpoint"):
        api.train(small_folder, "uri", tmp_path / "file")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="the working folder cannot be replaced"):
        api.train(small_folder, "uri", ".")


def test_a_full_disk_leaves_the_checkpoint_before(trained, tmp_path, small_folder, monkeypatch):
    """The old checkpoint still loads, and the run can go on once there is room."""
    out = tmp_path / "out"
    shutil.copytree(trained[0], out)
    before = files_of(out)
    from hf_genret import checkpoints

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_manifest", full)
        with pytest.raises(CheckpointError, match=r"No space left on device.*is untouched"):
            api.train(small_folder, "uri", out, short("uri"), overwrite=True)
    assert files_of(out) == before
    assert len(GenRetriever.from_pretrained(out, device="cpu").documents) == 200
    api.train(small_folder, "uri", out, short("uri"), resume=True)
    assert len(GenRetriever.from_pretrained(out, device="cpu").documents) == 80


# ---- every recipe -------------------------------------------------------------------------


def recipes_and_tasks() -> list[tuple[str, str]]:
    """Every shipped recipe with the kinds of data that it takes, `general` by its own recipe."""
    found = []
    for name in list_recipes():
        tasks = {load_recipe(name, task=task).task for task in ("text", "sequential")}
        found += [(name, task) for task in sorted(tasks)]
    return found


@pytest.mark.parametrize(("recipe", "task"), recipes_and_tasks())
def test_every_recipe_trains(tmp_path, text_folder, sequence_folder, monkeypatch, recipe, task):
    """200 documents: no level is empty, and it beats random; with its control, if any.

    Of a position code the recipe says the most values; ids are unique with it.
    """
    monkeypatch.setattr(given, "rq_vae", partial(given.rq_vae, steps=200))
    data = text_folder if task == "text" else sequence_folder
    report = api.train(data, recipe, tmp_path / "out", short(recipe, task=task))
    assert report["training"]["codebook_sizes"]
    controls = ["kmeans"] if load_recipe(recipe, task=task).controls else []
    systems = ["generative", *controls, "dense"]
    found = api.evaluate_checkpoint(tmp_path / "out", data, systems=[*systems, "random"])
    assert ndcg(found, "generative") > 2 * ndcg(found, "random")
    index = found["index"]["generative"]
    apart = bool(load_recipe(recipe, task=task).position_code)
    for level in index["levels"][: -1 if apart else None]:
        assert level["used"] > level["codes"] / 2
    assert not (apart and index["buckets"]["duplicate_ids"])
    if task != "text":
        assert set(found["history_not_excluded"]) == set(systems)


def test_the_same_seed_gives_the_same_report(tmp_path, text_folder, trained, evaluated):
    """Twice the same figures, stage by stage and on test."""
    out, first = trained
    second = api.train(text_folder, "uri", tmp_path / "out", short("uri"), seed=1)
    assert files_of(out) == files_of(tmp_path / "out")
    for a, b in zip(first["stages"], second["stages"], strict=True):
        assert {k: v for k, v in a.items() if k != "history"} == {
            k: v for k, v in b.items() if k != "history"
        }
    again = api.evaluate_checkpoint(tmp_path / "out", text_folder)
    for name, entry in evaluated["systems"].items():
        assert again["systems"][name]["metrics"] == entry["metrics"]


@pytest.fixture
def two_threads():
    """As on a laptop; a gradient that adds up in any order shows only there."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    "recipe", ["uri", "genret", "genret:one_codebook", "asi", "asi++:pq", "asi++:rq", "dgi"]
)
def test_the_same_weights_twice(tmp_path, small_folder, recipe):
    """One seed, one result, bit for bit."""
    for name in ("first", "second"):
        api.train(small_folder, recipe, tmp_path / name, short(recipe), seed=1)
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


@pytest.mark.parametrize("recipe", ["uri", "genret"])
def test_three_levels(tmp_path, small_folder, recipe):
    """Recipes that go level by level have a stage for each; no level ends with one code."""
    report = api.train(
        small_folder, recipe, tmp_path / "out", [*short(recipe), "model.codebook_sizes=[3, 3, 3]"]
    )
    assert [s["stage"] for s in report["stages"] if s["stage"].startswith("level")] == [
        f"level-{level}" for level in (1, 2, 3)
    ]
    model = GenRetriever.from_pretrained(tmp_path / "out", device="cpu").model
    assert [len(set(column)) for column in model.index.paths.T.tolist()] == [3, 3, 3]


# ---- pretrained encoders ------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param([], id="frozen"),
        pytest.param(["text.memory=tokens"], id="tokens"),
        pytest.param(["text.freeze=false"], id="trained"),
        pytest.param(["lora.r=2", "lora.dropout=0.0"], id="lora"),
    ],
)
def test_a_pretrained_encoder(tmp_path, small_folder, bert_folder, settings):
    """Trains, and loads again with the hits it had; the untrained encoder stands beside it."""
    out = tmp_path / "out"
    kept: list[Any] = []
    real = GenRetriever.save_pretrained

    def save(self, *args, **kwargs):
        kept.append(self.search("title one", k=5) + self.search("another two", k=5))
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GenRetriever, "save_pretrained", save)
        overrides = short("uri", f"encoder={bert_folder}", *settings)
        api.train(small_folder, "uri", out, [o for o in overrides if not o.startswith("bag")])
    retriever = GenRetriever.from_pretrained(out, device="cpu")
    hits = retriever.search("title one", k=5) + retriever.search("another two", k=5)
    assert [hit.id for hit in hits] == [hit.id for hit in kept[0]]
    assert not any("lora" in name for name in retriever.model.state_dict())
    found = api.evaluate_checkpoint(out, small_folder, systems=["dense", "dense_untrained"])
    assert set(found["systems"]) == {"dense", "dense_untrained"}
    untrained = (out / "baselines" / "untrained_encoder.safetensors").is_file()
    assert untrained == (settings not in ([], ["text.memory=tokens"]))

"""Comparisons: what is trained, what is kept, what happens when something fails."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from hf_genret.data import load_data
from hf_genret.errors import ConfigError, DataError
from hf_genret.evaluation import Run, per_query
from hf_genret.manifest import weights_digest
from hf_genret.retriever import GenRetriever
from hf_genret.training import api
from hf_genret.training.compare import compare
from hf_genret.training.compare.kept import load_measured, save_measured
from hf_genret.training.compare.measure import Measurer
from hf_genret.training.runs import row_codes

PAIR = "fixed:kmeans,fixed:random"


def test_the_start_is_trained_once_a_seed(run, trained):
    """Not listed, not reported, and every other system starts from it."""
    report = run("fixed:kmeans,fixed:random")
    assert trained == ["seed-0/dense", "seed-0/fixed.kmeans", "seed-0/fixed.random"]
    assert list(report["systems"]) == ["fixed:kmeans", "fixed:random"]
    assert report["failed"] == [] and report["baseline"] == "fixed:kmeans"
    assert report["shared_start"] == {"system": "dense", "training_seconds": [1.0]}


def test_whose_ids_are_taken_is_trained_first(run, trained, tmp_path):
    """It is not reported unless listed, and the folder may be moved: its content counts."""
    report = run("fixed:index_from=fixed:random,random")
    assert trained == [
        "seed-0/dense",
        "seed-0/fixed.random",
        "seed-0/fixed.index_from=fixed.random",
    ]
    assert list(report["systems"]) == ["fixed:index_from=fixed:random", "random"]
    command = report["systems"]["fixed:index_from=fixed:random"]["command"]
    assert "--set index_from=fixed:random" in command and str(tmp_path) not in str(report)
    del trained[:]
    (tmp_path / "out").rename(tmp_path / "moved")
    again = run("fixed:index_from=fixed:random,random", output=tmp_path / "moved")
    assert trained == [] and again["systems"] == report["systems"]


def test_other_ids_train_anew_who_takes_them(run, trained):
    """A setting that changes the checkpoint whose ids they are changes both."""
    run("fixed:index_from=uri")
    del trained[:]
    run("fixed:index_from=uri", ("stages.level-1.max_steps=2", "search.share=0.2"))
    assert trained == [
        "seed-0/dense",
        "seed-0/uri",
        "seed-0/fixed.index_from=uri",
    ]


def test_ids_of_another_are_learned(compared):
    """Its checkpoint has the ids of the other's checkpoint of the same seed, real training."""
    folder, report = compared
    for seed in (0, 1):
        own, other = (
            GenRetriever.from_pretrained(folder / f"seed-{seed}" / slug).model
            for slug in ("fixed.index_from=fixed.random@3x3", "fixed.random@3x3")
        )
        assert np.array_equal(row_codes(own), row_codes(other))
        place = folder / f"seed-{seed}" / "fixed.index_from=fixed.random@3x3" / "training.json"
        digest = weights_digest(folder / f"seed-{seed}" / "fixed.random@3x3")
        recipe = json.loads(place.read_text())["recipe"]
        assert recipe["index_from"] == f"fixed:random@3x3 {digest}"
    systems = report["systems"]
    assert (
        systems["fixed:index_from=fixed:random@3x3"]["ids"]["ape"]["leaf"]["ape"]
        == (systems["fixed:random@3x3"]["ids"]["ape"]["leaf"]["ape"])
    )


def test_ids_by_themselves_are_those_that_training_gives(compared):
    """The same figures as under a decoder, without a checkpoint."""
    folder, report = compared
    alone, trained = report["only_ids"]["ids:kmeans"], report["systems"]["fixed:kmeans"]
    for part in ("levels", "buckets", "codebook_sizes", "largest_bucket"):
        assert alone["ids"][part] == trained["ids"][part]
    assert alone["seeds"] == 2 and not (folder / "seed-0" / "ids.kmeans").exists()
    assert "ids:kmeans" not in report["systems"] and "ids:kmeans" not in report["runs"]


def test_nothing_but_ids(run, trained, tmp_path):
    """The start is all that is trained; the page has the one table, and nothing is made twice."""
    report = run("ids:rq,ids:random@3x3")
    assert trained == ["seed-0/dense"] and report["systems"] == {} and report["failed"] == []
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| ids:random@3x3 | 3×3 |" in page and "## Quality" not in page
    again = run("ids:rq,ids:random@3x3")
    assert trained == ["seed-0/dense"] and again["only_ids"] == report["only_ids"]


def test_ids_that_hide_documents_are_refused(run, trained):
    """Training would give the hidden ones ids afterwards; by themselves there are none to give."""
    report = run("ids:rq,random", ("new_documents.share=0.1",))
    (failure,) = report["failed"]
    assert failure["system"] == "ids:rq" and "new_documents hides some" in failure["error"]


def test_started_again_nothing_is_trained_or_measured(run, trained, monkeypatch):
    """The second report has the figures of the first."""
    first = run(PAIR)
    del trained[:]
    monkeypatch.setattr(Measurer, "checkpoint", None)  # would fail if it was called
    second = run(PAIR)
    assert trained == []
    assert second["systems"]["fixed:random"] == first["systems"]["fixed:random"]


def test_stopped_between_two_systems_it_goes_on(run, trained, monkeypatch):
    """What is there is not trained again."""
    noting = api.train_on

    def stopping(data, recipe, output, **rest):
        if output.name == "fixed.random":
            raise KeyboardInterrupt
        return noting(data, recipe, output, **rest)

    monkeypatch.setattr(api, "train_on", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(PAIR)
    monkeypatch.setattr(api, "train_on", noting)
    del trained[:]
    report = run(PAIR)
    assert trained == ["seed-0/fixed.random"] and len(report["systems"]) == 2


def test_an_interrupted_training_is_resumed(run, trained, monkeypatch, tmp_path):
    """A run's folder of the same identity is gone on with, one of another is begun anew."""
    run("fixed:kmeans")
    place = tmp_path / "out" / "seed-0" / "fixed.kmeans"
    record = json.loads((place / "training.json").read_text())
    manifest = json.loads((place / "manifest.json").read_text())
    identity = {
        "data": manifest["data"]["fingerprint"],
        "seed": manifest["seed"],
        "recipe": record["recipe"],
    }
    resumed = []
    real = api.train_on

    def noting(data, recipe, output, **rest):
        resumed.append(rest["resume"])
        return real(data, recipe, output, **rest)

    monkeypatch.setattr(api, "train_on", noting)
    for wanted, seed in ((True, 0), (False, 5)):
        shutil.rmtree(place)
        work = place.with_name("fixed.kmeans.run")
        work.mkdir()
        (work / "run.json").write_text(json.dumps({**identity, "seed": seed}))
        run("fixed:kmeans")
        assert resumed.pop() is wanted and place.is_dir()


def test_other_settings_train_anew(run, trained):
    """Only what they concern; a new start concerns everybody."""
    run("fixed:kmeans")
    del trained[:]
    run("fixed:kmeans", ("stages.ids.max_steps=2",))
    assert trained == ["seed-0/fixed.kmeans"]
    del trained[:]
    run("fixed:kmeans", ("stages.ids.max_steps=2", "stages.encoder.max_steps=3"))
    assert trained == ["seed-0/dense", "seed-0/fixed.kmeans"]


def test_some_are_trained_with_every_seed(run, trained):
    """The others once; each of the further seeds has a start of its own."""
    report = run(PAIR + ",random", seeds=2, repeat="fixed:kmeans")
    assert trained == [
        *("seed-0/dense", "seed-0/fixed.kmeans", "seed-0/fixed.random"),
        *("seed-1/dense", "seed-1/fixed.kmeans"),
    ]
    seeds = {name: list(runs) for name, runs in report["runs"].items()}
    assert seeds == {"fixed:kmeans": ["0", "1"], "fixed:random": ["0"], "random": ["0"]}
    assert "--seeds 2 --repeat fixed:kmeans" in report["command"]
    assert report["systems"]["fixed:random"]["metrics"]["ndcg@10"]["spread"] is None


def test_a_damaged_checkpoint_is_trained_anew(run, trained, tmp_path):
    """Files that its manifest misses make it none."""
    run("fixed:kmeans")
    del trained[:]
    (tmp_path / "out" / "seed-0" / "fixed.kmeans" / "config.json").unlink()
    run("fixed:kmeans")
    assert trained == ["seed-0/fixed.kmeans"]


def test_a_system_that_fails_is_said_and_the_others_go_on(run, trained, monkeypatch):
    """With its sentence, without the folders of this machine; its fusions fail with it."""
    real = api.train_on

    def failing(data, recipe, output, **rest):
        if recipe.ids == "random":
            raise DataError("it went wrong", path=str(output))
        return real(data, recipe, output, **rest)

    monkeypatch.setattr(api, "train_on", failing)
    report = run("fixed:random,fixed:kmeans,fixed:random+bm25", split="dev")
    assert list(report["systems"]) == ["fixed:kmeans"]
    first, second = report["failed"]
    assert first["error"] == "DIR/seed-0/fixed.random: it went wrong"
    assert (second["system"], second["seed"]) == ("fixed:random+bm25", 0)
    assert "'fixed:random' failed" in second["error"]


def test_a_start_that_fails_is_tried_once(run, trained, monkeypatch):
    """Every system that needs it fails with its sentence."""
    tried = []

    def failing(data, recipe, output, **rest):
        tried.append(output.name)
        raise DataError("no luck")

    monkeypatch.setattr(api, "train_on", failing)
    report = run(PAIR + ",random")
    assert tried == ["dense"] and list(report["systems"]) == ["random"]
    assert [entry["system"] for entry in report["failed"]] == ["fixed:kmeans", "fixed:random"]
    assert report["baseline"] is None and report["equal_pool"] is None


@pytest.mark.parametrize(
    ("systems", "arguments", "message"),
    [
        ("fixed,bm26", {}, "did you mean 'bm25'"),
        ("fixed,bm25", {"baseline": "uri"}, "The baseline 'uri' is no listed system"),
        ("fixed,bm25", {"repeat": "uri"}, "The repeated 'uri' is no listed system"),
        ("fixed", {"seeds": 0}, "seeds is 0"),
        ("fixed", {"fusion": "sum"}, "Unknown fusion 'sum'"),
        ("fixed", {"more": ("bagg.dim=1",)}, "did you mean 'bag'"),
    ],
)
def test_wrong_usage_is_met_before_any_training(run, trained, systems, arguments, message):
    """One sentence each."""
    with pytest.raises(ConfigError, match=message):
        run(systems, **arguments)
    assert trained == []


def test_sequences_leave_histories_out(trained, sequence_folder, tmp_path):
    """Popularity and random stand for the rest; the main metric is R@10; BM25 reads texts."""
    report = compare(sequence_folder, "popularity,random,bm25", output=tmp_path / "out")
    assert report["metric"] == "recall@10"
    assert "history excluded" in report["systems"]["popularity"]["notes"]
    assert [entry["system"] for entry in report["failed"]] == ["bm25"]


def test_runs_come_back_as_they_were(tmp_path, rng):
    """Rows, scores, candidates and leaves in the order visited; another identity is nothing."""
    rows = [rng.permutation(9)[:n].astype(np.int64) for n in (3, 0, 5)]
    run = Run(
        "x",
        rows,
        scores=[rng.random(len(row)).astype(np.float32) for row in rows],
        pools=rows,
        buckets=[[rows[0][:2], rows[0][2:]], [], [rows[2]]],
        latency_ms=1.5,
        notes=["a note"],
    )
    save_measured(tmp_path / "x", run, {"figure": np.float64(2.0)}, {"seed": 1})
    assert load_measured(tmp_path / "x", {"seed": 2}) is None
    back, facts = load_measured(tmp_path / "x", {"seed": 1})
    assert facts == {"figure": 2.0} and back.latency_ms == 1.5 and back.notes == ["a note"]
    for column in ("rows", "scores", "pools"):
        for old, new in zip(getattr(run, column), getattr(back, column), strict=True):
            assert old.dtype == new.dtype and np.array_equal(old, new)
    for old, new in zip(run.buckets, back.buckets, strict=True):
        assert [leaf.tolist() for leaf in old] == [leaf.tolist() for leaf in new]


def test_a_fusion_is_chosen_on_dev(compared, small_folder):
    """Its weight stands in the report, and it has the costs of both."""
    _, report = compared
    fused, queries = report["systems"]["fixed:kmeans+bm25"], load_data(small_folder).split("test")
    assert fused["fusion"]["method"] == "rrf" and 0 <= fused["fusion"]["weight"] <= 1
    assert fused["fusion"]["dev_queries"] == 20
    parts = [report["systems"][name]["costs"] for name in ("fixed:kmeans", "bm25")]
    total = sum(part["index_bytes"] for part in parts)
    assert fused["costs"]["index_bytes"] == total
    assert fused["queries"] == len(queries)


def test_figures_are_those_of_the_runs(compared, small_folder):
    """Means and seeds of a system against its kept runs, computed apart."""
    folder, report = compared
    queries = load_data(small_folder).split("test")
    means = []
    for seed in (0, 1):
        place = folder / "measured" / "test" / f"seed-{seed}" / "fixed.kmeans"
        identity = json.loads(place.with_name("fixed.kmeans.json").read_text())["identity"]
        run, _ = load_measured(place, identity)
        means.append(float(np.nanmean(per_query(run, queries)["ndcg@10"])))
    entry = report["systems"]["fixed:kmeans"]["metrics"]["ndcg@10"]
    assert entry["seeds"] == pytest.approx(means) and entry["mean"] == pytest.approx(np.mean(means))
    assert entry["spread"] == {"min": min(means), "max": max(means)}

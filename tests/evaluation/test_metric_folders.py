"""Metrics for `evaluate`: the figures are the package's own, bad input is one sentence."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml

from hf_genret.errors import ConfigError
from hf_genret.evaluation import METRICS, ape_report, check_ids, docid_report, metric_folder
from hf_genret.evaluation.metrics import item_metrics

RANKED = ("recall", "ndcg", "mrr")


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A metric as `evaluate.load` gives it, with its caches in a folder of its own."""
    import evaluate

    folder = tmp_path_factory.mktemp("metrics")
    return lambda name: evaluate.load(str(metric_folder(f"genret_{name}")), cache_dir=str(folder))


def as_ids(rows):
    return [[f"d{row}" for row in ranked] for ranked in rows]


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("k", [1, 5, 10])
def test_rankings_equal_the_packages_own(load, random_split, name, k):
    """The figures are those of `item_metrics` for judgments that all count the same."""
    queries, rows = random_split()
    relevant = [dict.fromkeys(gains, 1.0) for gains in queries.relevant]
    expected = item_metrics(rows, relevant, (k,))[f"{name}@{k}"].mean()
    result = load(name).compute(predictions=as_ids(rows), references=as_ids(relevant), k=k)
    assert result == pytest.approx({f"{name}@{k}": expected})


def test_graded_ndcg_equals_the_packages_own(load):
    """Gains, also of 0, count as they do in `item_metrics`."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(12)[:6] for _ in range(20)]
    judged = [
        {int(row): float(gain) for row, gain in zip(rng.permutation(12)[:5], gains, strict=True)}
        for gains in rng.integers(0, 4, (20, 5))
    ]
    result = load("ndcg").compute(
        predictions=as_ids(rows),
        references=as_ids(judged),
        gains=[list(gains.values()) for gains in judged],
        k=5,
    )
    assert result["ndcg@5"] == pytest.approx(np.nanmean(item_metrics(rows, judged, (5,))["ndcg@5"]))


def test_batches_add_up(load):
    """`add_batch` and one `compute` see all queries; those without relevant ids are left out."""
    metric = load("ndcg")
    metric.add_batch(predictions=[["b", "a"]], references=[["a"]])
    metric.add_batch(predictions=[["c"], []], references=[[], ["x"]])
    assert metric.compute() == pytest.approx({"ndcg@10": 1 / math.log2(3) / 2})


def test_ape_equals_the_packages_own(load):
    """Whole ids, first codes and unique ids, as `ape_report` has them."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, (30, 3))
    relevant = [dict.fromkeys(rng.permutation(30)[:n].tolist(), 1.0) for n in (1, 2, 5, 9)]
    docids = [codes[list(rows)].tolist() for rows in relevant]
    expected = ape_report(codes, relevant, [3, 3, 3])
    assert load("ape").compute(predictions=[*docids, []]) == pytest.approx(
        {
            "ape": expected["leaf"]["ape"],
            "ape_level_1": expected["level_1"]["ape"],
            "unbucketed": expected["unbucketed"],
            "queries": 4,
        }
    )


@pytest.mark.parametrize("spread", [(4, 8), (1, 8), (4, 1), (2, 2)])
def test_docid_health_equals_the_packages_own(load, spread):
    """Figures as in `docid_report`, findings as in `check_ids`, for even and collapsed ids."""
    rng, sizes = np.random.default_rng(2), [4, 8]
    codes = np.stack([rng.integers(0, width, 60) for width in spread], axis=1)
    result = load("docid_health").compute(predictions=codes.tolist(), codebook_sizes=sizes)
    found = result.pop("findings")
    assert flat(result) == pytest.approx(flat(docid_report(codes, sizes)))
    expected = check_ids(codes, sizes)
    assert [(one["figure"], one["level"]) for one in found] == [
        (one.figure, one.level) for one in expected
    ]
    assert [one["value"] for one in found] == pytest.approx([one.value for one in expected])
    assert bool(found) == (spread != (4, 8))


def flat(report):
    """The leaves of a report by their path."""
    if not isinstance(report, dict | list):
        return {"": report}
    items = report.items() if isinstance(report, dict) else enumerate(report)
    return {f"{name}/{key}": leaf for name, item in items for key, leaf in flat(item).items()}


def test_nothing_to_measure_is_nan(load):
    """No query with a relevant id has no mean."""
    for name in RANKED:
        (value,) = load(name).compute(predictions=[["a"]], references=[[]], k=3).values()
        assert np.isnan(value)
    assert np.isnan(load("ape").compute(predictions=[[]])["ape"])


RANKING = {"predictions": [["a"]], "references": [["a"]]}
FAULTS = {
    "twice": ("recall", {**RANKING, "predictions": [["a", "a"]]}, "predictions of query 1 .*twice"),
    "judged twice": ("mrr", {**RANKING, "references": [["a", "a"]]}, "references of query 1"),
    "cut": ("ndcg", {**RANKING, "k": 0}, "at least 1, found 0"),
    "cut is no number": ("recall", {**RANKING, "k": "ten"}, "found 'ten'"),
    "gains": ("ndcg", {**RANKING, "gains": [[1, 2]]}, "one number for each id"),
    "infinite gain": ("ndcg", {**RANKING, "gains": [[math.inf]]}, "finite"),
    "lengths": ("ape", {"predictions": [[[1, 2], [1]]]}, r"one number of codes, found \[1, 2\]"),
    "levels": ("docid_health", {"predictions": [[1]], "codebook_sizes": [2, 2]}, "2 codes each"),
    "range": ("docid_health", {"predictions": [[2]], "codebook_sizes": [2]}, r"below \[2\]"),
    "sizes": ("docid_health", {"predictions": [[0]], "codebook_sizes": [0]}, "at least 1"),
}


@pytest.mark.parametrize("case", FAULTS, ids=str)
def test_bad_input_is_one_sentence(load, case):
    """Each fault is a ValueError that says what was expected."""
    name, inputs, message = FAULTS[case]
    with pytest.raises(ValueError, match=message):
        load(name).compute(**inputs)


def test_inputs_of_another_type_are_refused(load):
    """`evaluate` itself checks the features."""
    with pytest.raises(ValueError, match="Got a string but expected a list"):
        load("recall").compute(predictions=["a"], references=["a"])


def test_an_unknown_metric_is_an_error():
    """The sentence names those that exist."""
    with pytest.raises(ConfigError, match="genret_recall"):
        metric_folder("recall")


@pytest.mark.parametrize("name", METRICS)
def test_a_folder_is_a_space(name):
    """Front matter as `evaluate` lists its Spaces, the app it names, and the same app in each."""
    folder = metric_folder(name)
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert {"evaluate", "metric"} <= set(front["tags"]) and front["sdk"] == "gradio"
    app = (folder / front["app_file"]).read_text(encoding="utf-8")
    assert app == (metric_folder("genret_recall") / "app.py").read_text(encoding="utf-8")
    assert (folder / "requirements.txt").is_file() and front["title"] == name


@pytest.mark.parametrize("name", METRICS)
def test_the_examples_give_what_they_say(load, name):
    """What stands in a README as a comment is what the code before it gives."""
    text = (metric_folder(name) / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(import evaluate.*?)```", text, flags=re.DOTALL)
    calls = re.findall(r"^(metric\..*)\n# (.*)$", block, flags=re.MULTILINE)
    names = {"metric": load(name.removeprefix("genret_"))}
    for call, said in calls:
        assert eval(call, names) == pytest.approx(json.loads(said))
    assert calls


def test_the_app_computes(monkeypatch, tmp_path):
    """The page takes JSON, gives the figures, and tells of bad input."""
    gradio = pytest.importorskip("gradio")
    path = metric_folder("genret_ape") / "app.py"
    spec = importlib.util.spec_from_file_location("metric_app", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.build()
    assert page.fn('{"predictions": [[[0], [0]]]}')["ape"] == 0.0
    with pytest.raises(gradio.Error, match="one number of codes"):
        page.fn('{"predictions": [[[0], []]]}')


def test_they_load_offline_in_a_fresh_process(tmp_path):
    """No network, no cache, no import of the package."""
    code = (
        "import sys, evaluate\n"
        "for name in sys.argv[1:]: evaluate.load(name)\n"
        "m = evaluate.load(sys.argv[1])\n"
        "r = m.compute(predictions=[['b', 'a']], references=[['a']], k=1)\n"
        "assert r == {'recall@1': 0.0}, r\n"
        "assert 'hf_genret' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *(str(metric_folder(name)) for name in METRICS)],
        cwd=tmp_path,
        env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

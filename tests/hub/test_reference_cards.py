"""The reference cards: each says what the report beside it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

FOLDER = Path(__file__).resolve().parents[2] / "model_cards" / "reference"
METHODS = ("uri", "genret", "asi", "asi++", "dgi", "fixed", "dense")


def test_one_card_a_method():
    """No method without a card, no card without a report."""
    for ending in ("md", "json"):
        found = {path.stem for path in FOLDER.glob(f"*.{ending}")} - {"README"}
        assert found == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_card_shows_its_report(method):
    """Metadata, table, commands and data are those of the run."""
    text = (FOLDER / f"{method}.md").read_text(encoding="utf-8")
    report = json.loads((FOLDER / f"{method}.json").read_text(encoding="utf-8"))
    metadata = metadata_load(FOLDER / f"{method}.md")
    _, results = model_index_to_eval_results(metadata["model-index"])
    measured = report["systems"]["generative"]["metrics"]
    assert {"ndcg@10", "recall@10"} <= {result.metric_name for result in results}
    for result in results:
        assert result.metric_value == round(measured[result.metric_name]["mean"], 4)
    for name, system in report["systems"].items():
        shown = f"{system['metrics']['ndcg@10']['mean']:.3f}".removeprefix("0")
        assert f"| {name} | {shown} [" in text
    assert {"generative", "dense", "bm25", "random"} <= set(report["systems"])
    assert f"\n{report['command']}\n" in text and report["data"]["fingerprint"] in text
    trained = re.search(r"^hf-genret train (\S+) --recipe (\S+) --seed 0", text, flags=re.MULTILINE)
    assert trained[2] == method and f" {trained[1]} " in report["command"]

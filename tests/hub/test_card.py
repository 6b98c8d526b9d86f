"""The card says what a checkpoint is, how it is used and how it was measured."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever
from hf_genret.hub import GenRetModelCardData, read_report, render_card, write_card

REPORT = {
    "data": {"name": "My: data", "fingerprint": "f00d", "documents": 3, "queries": 9, "notes": []},
    "split": "test",
    "command": "hf-genret evaluate CHECKPOINT DATA",
    "seed": 0,
    "systems": {
        "generative": {
            "metrics": {
                "ndcg@10": {"mean": 0.61234, "low": 0.6, "high": 0.63},
                "recall@10": {"mean": 0.7, "low": 0.6, "high": 0.8},
                "mrr@10": {"mean": None, "low": None, "high": None},
            },
            "documents_ranked": 2.0,
            "notes": ["5 beams"],
        },
        "bm25": {"metrics": {"ndcg@10": {"mean": 0.5, "low": 0.4, "high": 0.6}}},
    },
}


@pytest.fixture
def retriever():
    """Three documents, one with everything that could break a code block."""
    titles = ['Say "hi" \\ `code` {{ jinja }} \n```', "b", "c"]
    return tiny_retriever(Documents(["1", "2", "3"], titles, ["x y", "y z", "z x"]))


def test_front_matter_and_figures(retriever):
    """Valid metadata, the model index with this checkpoint's figures, the table and the command."""
    text = render_card(retriever, REPORT, repo_id="me/toy", language="en", license="mit")
    card = ModelCard(text)
    assert card.data.library_name == "hf-genret" and card.data.pipeline_tag == "text-ranking"
    assert {"generative-retrieval", "transformers"} <= set(card.data.tags)
    assert card.data.language == "en" and card.data.license == "mit"
    results = {result.metric_type: result for result in card.data.eval_results}
    assert set(results) == {"ndcg_at_10", "recall_at_10"}
    assert results["ndcg_at_10"].metric_value == 0.6123
    assert results["ndcg_at_10"].dataset_name == "My: data"
    assert "| generative | .612 [.600, .630]" in text and "| bm25 | .500" in text
    assert REPORT["command"] in text and "generative: 5 beams" in text and "f00d" in text


def test_without_figures(retriever):
    """It says that nothing was measured, and what loads."""
    text = render_card(retriever)
    data = yaml.safe_load(text.split("---")[1])
    assert "model-index" not in data and "Not measured yet" in text
    assert text.count('"OWNER/NAME"') == 3 and "trust_remote_code=True" in text


@pytest.mark.parametrize("report", [None, REPORT])
def test_its_code_is_python(retriever, report):
    """Every example compiles, whatever the documents hold."""
    text = render_card(retriever, report, repo_id="me/toy")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "card", "exec")
    assert "{{" not in text and text.count("```") % 2 == 0


def test_its_transformers_example_runs(retriever, tmp_path):
    """The second block finds documents in a saved checkpoint."""
    retriever.save_pretrained(tmp_path / "out")
    text = render_card(retriever, repo_id=str(tmp_path / "out"))
    block = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1]
    import hf_genret.modeling  # noqa: F401  registered, so that no remote code has to run

    names = {}
    exec(compile(block, "card", "exec"), names)
    assert names["model"].search(**names["tokens"], k=2).rows.shape == (1, 2)


def test_histories_have_their_own_examples(shop):
    """A model without text is shown with recommend()."""
    text = render_card(shop)
    assert 'recommend(history=["i1"], k=5)' in text and "AutoTokenizer" not in text
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "card", "exec")


def test_write_card(retriever, tmp_path):
    """Card and report lie in the folder; a report that cannot be read is none."""
    write_card(tmp_path, retriever, REPORT)
    assert read_report(tmp_path) == json.loads(json.dumps(REPORT))
    assert ModelCard.load(tmp_path / "README.md").data.eval_results
    (tmp_path / "report.json").write_text("{")
    assert read_report(tmp_path) is None
    (tmp_path / "report.json").write_text("[]")
    assert read_report(tmp_path) is None


def test_card_data_alone():
    """Without a report there is no model index; further fields are kept."""
    data = GenRetModelCardData(base_model="me/encoder").to_dict()
    assert "model-index" not in data and data["base_model"] == "me/encoder"

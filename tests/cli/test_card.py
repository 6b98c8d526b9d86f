"""`hf-genret card`: from a trained folder to its README, and what it must not destroy."""

from __future__ import annotations

import json
import re

import pytest
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from hf_genret.cli.main import main
from hf_genret.data import Documents
from hf_genret.demo.tiny import tiny_retriever

TRAINING = {
    "method": "uri",
    "recipe": {"encoder": "/home/someone/encoders/tiny-encoder", "description": "URI | by layer"},
    "schedule": [
        {
            "name": "level-1",
            "objective": "uri",
            "level": 1,
            "train": ["decoder", "heads"],
            "epochs": 1,
            "max_steps": 9,
            "batch_size": 32,
            "learning_rate": 0.0003,
        },
        {"name": "skipped", "objective": "uri", "level": 2, "train": [], "learning_rate": 1.0},
    ],
    "stages": [
        {"stage": "level-1", "steps": 7, "warnings": [{"message": "Level 1 uses 1 of 8 codes."}]}
    ],
    "training": {"queries": 1234},
    "warnings": [],
    "seconds": 12.3,
}
FACTS = {
    "seed": 3,
    "command": "hf-genret train DATA --recipe uri --seed 3",
    "data": {"name": "my-data", "fingerprint": "f00d", "documents": 12, "notes": ["A note."]},
}
METRIC = {"mean": 0.5, "low": 0.4, "high": 0.6}
REPORT = {
    "data": {"name": "my-data", "fingerprint": "f00d", "documents": 12, "queries": 9},
    "split": "test",
    "command": "hf-genret evaluate CHECKPOINT DATA --split test",
    "seed": 3,
    "systems": {
        "generative": {"metrics": {"ndcg@10": METRIC, "recall@10": METRIC}},
        "bm25": {"metrics": {"ndcg@10": METRIC}},
    },
    "index": {"generative": {"ape": {"unbucketed": 0.7, "leaf": {"ape": 0.25, "random": 0.5}}}},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with all that training leaves behind, and a report of it."""
    place = tmp_path_factory.mktemp("card")
    texts = [f"{animal} {n}" for n in range(4) for animal in ("fox", "owl", "hen")]
    retriever = tiny_retriever(Documents([f"d{n}" for n in range(12)], [""] * 12, texts))
    (place / "beside").mkdir()
    (place / "beside" / "training.json").write_text(json.dumps(TRAINING))
    retriever.save_pretrained(place / "out", extra_manifest=FACTS, beside=place / "beside")
    (place / "report.json").write_text(json.dumps(REPORT))
    return place


@pytest.fixture(scope="module")
def card(trained):
    """The card with its figures."""
    out, report = str(trained / "out"), str(trained / "report.json")
    assert main(["card", out, "--report", report, "--language", "en", "--license", "mit"]) == 0
    return (trained / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "said",
    [
        r"| method | uri: URI \| by layer |",
        "| data | my-data, 12 documents, fingerprint `f00d` |",
        "- A note.",
        "| languages | en |",
        "| training queries | 1,234,",
        "| encoder | tiny-encoder |",
        "| seed | 3 |",
        "| level-1 | uri, level 1 | decoder, heads | 7 | 32 | 0.0003 |",
        "(in 12 seconds)",
        "hf-genret train DATA --recipe uri --seed 3",
        "| 1 | 3 | 100 % |",
        "- level-1: Level 1 uses 1 of 8 codes.",
        "0.250 nats; with the same bucket sizes and random ids 0.500",
        "| generative | .500 [.400, .600] |",
        "| bm25 | .500 [.400, .600] |",
        "recall@10 0.500 [0.400, 0.600]",
        "hf-genret evaluate CHECKPOINT DATA --split test",
        "## Intended use",
        "## Limits",
        "from_pretrained(",
        "trust_remote_code=True",
    ],
)
def test_the_card_says(card, said):
    """Method, data, language, schedule, commands, health, figures, use and limits."""
    assert said in card


def test_it_does_not_say(card):
    """No path of this machine, and no stage that did not run."""
    assert "/home/someone" not in card and "skipped" not in card


def test_the_hubs_client_reads_its_metadata(trained, card):
    """Front matter and model index, by the client's own readers."""
    metadata = metadata_load(trained / "out" / "README.md")
    assert metadata["language"] == "en" and metadata["license"] == "mit"
    assert metadata["library_name"] == "hf-genret" and "base_model" not in metadata
    _, results = model_index_to_eval_results(metadata["model-index"])
    values = {result.metric_type: result.metric_value for result in results}
    assert values == {"ndcg_at_10": 0.5, "recall_at_10": 0.5}
    assert ModelCard(card, ignore_metadata_errors=False).data.eval_results == results


def test_its_tables_are_tables(card):
    """All rows of a table have as many cells as its rule."""
    for table in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        rows = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(rows)) == 1, table


def test_a_checkpoint_still_loads_and_a_second_card_keeps_what_people_added(trained, card, capsys):
    """The manifest does not hold the card against it; language, license and figures stay."""
    out = trained / "out"
    assert main(["card", str(out), "--repo", "me/it", "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["card"] == str(out / "README.md")
    assert said["metadata"]["license"] == "mit" and said["metadata"]["model-index"]
    text = (out / "README.md").read_text(encoding="utf-8")
    assert "hf-genret evaluate" in text and 'from_pretrained("me/it")' in text
    assert main(["inspect", str(out)]) == 0


def test_a_card_changed_by_hand_is_not_replaced(trained, card, capsys):
    """Without the line at its top it is somebody's; --force replaces it."""
    path = trained / "out" / "README.md"
    path.write_text("# Mine\n", encoding="utf-8")
    assert main(["card", str(trained / "out")]) == 2
    assert "--force" in capsys.readouterr().err and path.read_text() == "# Mine\n"
    assert main(["card", str(trained / "out"), "--force"]) == 0
    assert "## Method and data" in path.read_text(encoding="utf-8")


def test_another_place(trained, tmp_path):
    """--output leaves the checkpoint as it is."""
    before = (trained / "out" / "README.md").stat().st_mtime_ns
    assert main(["card", str(trained / "out"), "--output", str(tmp_path / "card.md")]) == 0
    assert "## Limits" in (tmp_path / "card.md").read_text(encoding="utf-8")
    assert (trained / "out" / "README.md").stat().st_mtime_ns == before


FAULTS = {
    "no report": ({"stages": []}, [], "expected a report of `hf-genret evaluate`"),
    "other corpus": ({**REPORT, "data": {"documents": 11}}, [], "11 documents, the checkpoint"),
    "other texts": (
        {**REPORT, "data": {"documents": 12, "texts": "0" * 16}},
        [],
        "the report is of other documents",
    ),
    "language": (REPORT, ["--language", "English"], "--language wants a code"),
}


@pytest.mark.parametrize("case", FAULTS, ids=str)
def test_what_cannot_be_told_is_one_sentence(trained, tmp_path, capsys, case):
    """Nothing is written."""
    report, words, message = FAULTS[case]
    (tmp_path / "report.json").write_text(json.dumps(report))
    card = str(tmp_path / "card.md")
    given = ["--report", str(tmp_path / "report.json"), "--output", card, *words]
    assert main(["card", str(trained / "out"), *given]) in (1, 2)
    assert message in capsys.readouterr().err and not (tmp_path / "card.md").exists()


def test_front_matter_that_is_no_yaml_is_told(trained, tmp_path, capsys):
    """The file is named, not replaced."""
    path = tmp_path / "card.md"
    path.write_text("---\na: [\n---\n", encoding="utf-8")
    assert main(["card", str(trained / "out"), "--output", str(path), "--force"]) == 1
    assert "expected YAML" in capsys.readouterr().err

"""A checkpoint goes to the Hub in one commit and comes back the same."""

from __future__ import annotations

import json

import pytest

REPORT = {
    "data": {"name": "toy", "fingerprint": "f", "documents": 12, "queries": 3, "notes": []},
    "split": "test",
    "command": "hf-genret evaluate OUT DATA",
    "seed": 0,
    "systems": {"generative": {"metrics": {"ndcg@10": {"mean": 0.7654, "low": 0.7, "high": 0.8}}}},
}
PUSH = f"""
print("URL", retriever.push_to_hub("me/tiny"))
loaded = GenRetriever.from_pretrained("me/tiny")
same(loaded)
print("ROWS", [loaded.documents.row_of(hit.id) for hit in loaded.search("red fox", k=5)])

retriever.push_to_hub("me/branch", private=True, revision="v1", commit_message="first")
same(GenRetriever.from_pretrained("me/branch", revision="v1"))

retriever.save_pretrained("out", report={REPORT!r})
GenRetriever.from_pretrained("out").push_to_hub("me/measured")
retriever.push_to_hub("me/lost")
error(lambda: retriever.push_to_hub("me/refused"))
"""
ALONE = """
import sys
sys.modules["hf_genret"] = None  # an import of it fails
from transformers import AutoModel, AutoTokenizer
model = AutoModel.from_pretrained("me/tiny", trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained("me/tiny", trust_remote_code=True)
tokens = tokenizer(["red fox"], return_tensors="pt")
ids = model.generate(**tokens, num_beams=20, num_return_sequences=20)
assert ids.shape == (20, 3)
print("ROWS", model.search(**tokens, k=5).rows[0].tolist())
"""


@pytest.fixture(scope="module")
def said(hub, program):
    """What the program that pushes printed, by the first word of its lines."""
    hub.refused.add("me/refused")
    return dict(line.split(" ", 1) for line in program(PUSH))


def test_push_is_one_commit_with_everything_and_no_pickle(hub, said):
    """The folder, a card and the manifest; loading it gave the same hits."""
    files = hub.files("me/tiny")
    assert said["URL"].startswith(f"{hub.url}/me/tiny/commit/")
    assert [repo for repo, _, _ in hub.uploads].count("me/tiny") == 1
    assert {"model.safetensors", "vectors.safetensors", "documents.parquet"} < set(files)
    assert {"manifest.json", "README.md", "modeling_genret.py", "tokenizer.json"} < set(files)
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    card = files["README.md"].decode()
    assert card.startswith("---\n") and 'from_pretrained("me/tiny")' in card
    assert "README.md" in json.loads(files["manifest.json"])["files"]


def test_push_to_a_branch_of_a_private_repository(hub, said):
    """`private`, `revision` and the message reach the Hub; main stays empty."""
    assert hub.repos["me/branch"]["private"] and not hub.repos["me/tiny"]["private"]
    assert not hub.files("me/branch", "main") and hub.files("me/branch", "v1")
    heads = [(branch, head["summary"]) for repo, branch, head in hub.uploads if repo == "me/branch"]
    assert heads == [("v1", "first")]


def test_a_card_with_figures_is_kept(hub, said):
    """The card and the report that the folder had go with it, the repository named."""
    files = hub.files("me/measured")
    card = files["README.md"].decode()
    assert "value: 0.7654" in card and "hf-genret evaluate OUT DATA" in card
    assert 'from_pretrained("me/measured")' in card and "OWNER/NAME" not in card
    assert json.loads(files["report.json"])["systems"]["generative"]


def test_a_refused_push_is_one_sentence(said):
    """What the Hub says is passed on."""
    assert said["ERROR"].startswith("me/refused: the Hub refused the upload (")


def test_transformers_alone_loads_what_was_pushed(program, said):
    """Where the package cannot be imported, AutoModel generates and searches the same."""
    assert program(ALONE, start="")[-1] == f"ROWS {said['ROWS']}"


def test_without_the_hub_a_cached_repository_loads_and_another_is_an_error(program, said):
    """After one download nothing asks the network."""
    source = (
        'same(GenRetriever.from_pretrained("me/tiny"))\n'
        'error(lambda: GenRetriever.from_pretrained("me/never-seen"))\n'
    )
    (line,) = program(source, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert line.startswith("ERROR me/never-seen: neither a folder here nor a repository")


def test_repositories_that_cannot_be_loaded_are_one_sentence_each(hub, program, said):
    """Not there, no checkpoint (nothing but config.json is fetched), another model, a file lost."""
    for repo, config in (("me/bare", {}), ("me/bert", {"config.json": b'{"model_type": "bert"}'})):
        hub.repos[repo] = {"private": False, "refs": {}}
        hub.add_commit(repo, "main", {**config, "model.safetensors": b"big"})
    kept = {n: c for n, c in hub.files("me/lost").items() if n != "documents.parquet"}
    hub.add_commit("me/lost", "main", kept)
    names = ["me/none", "me/bare", "me/bert", "me/lost"]
    source = f"for name in {names}:\n    error(lambda: GenRetriever.from_pretrained(name))\n"
    none, bare, bert, lost = program(source)
    assert none.startswith("ERROR me/none: neither a folder here nor a repository of the Hub")
    assert bare == "ERROR me/bare: expected a checkpoint, found no config.json."
    assert "me/bert: expected model_type 'genret' in config.json, found 'bert'" in bert
    assert "documents.parquet is missing" in lost

"""Queries of a text and a history of documents: from JSON lines to training and search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_genret import GenRetriever
from hf_genret.data import Documents, Queries, RetrievalData, load_data
from hf_genret.encoding import pooled_vectors
from hf_genret.training import api
from hf_genret.training.build import build, training_queries
from hf_genret.training.recipes import load_recipe

THEMES, EACH = 6, 8
SMALL = [
    *("bag={vocab_size: 400, dim: 24}", "items={layers: 1, dropout: 0.0}", "queries.pseudo=1"),
    *("model.decoder_dim=16", "model.decoder_heads=2", "model.codebook_sizes=[6, 3]"),
]


def write_walks(folder: Path) -> Path:
    """The text says the theme; only the document read last says which one of it comes next."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list("bdfgklmnprst"), 5)) for _ in range(THEMES * (EACH + 3))]
    documents, queries = [], []
    for theme in range(THEMES):
        shared, *own = np.split(
            np.array(words[theme * (EACH + 3) :][: EACH + 3]), [3, *range(4, 11)]
        )
        for place in range(EACH):
            name = f"d{theme * EACH + place}"
            text = " ".join([*shared, *own[place].tolist() * 2])
            documents.append({"_id": name, "title": own[place][0], "text": text})
            target = f"d{theme * EACH + (place + 1) % EACH}"
            for split in ("train", "dev", "test"):
                asked = {"text": " ".join(rng.permutation(shared)[:2]), "split": split}
                history = [f"d{rng.integers(THEMES * EACH)}", name]
                queries.append({**asked, "history": history, "relevant": [target]})
    for file, lines in (("documents", documents), ("queries", queries)):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def walks(tmp_path_factory) -> Path:
    """JSON lines of 48 documents and as many queries a split."""
    return write_walks(tmp_path_factory.mktemp("data") / "walks")


def recipe(*settings: str, name: str = "dgi"):
    return load_recipe(name, [*SMALL, *settings])


def test_histories_survive_the_joining_of_queries(walks):
    """Made queries stand beside the data's own with an empty history each."""
    data = load_data(walks)
    train, dev = training_queries(recipe(), data, 0)
    own = data.splits["train"]
    assert len(train.histories) == len(train) == len(train.texts) > len(own)
    for found, wanted in zip(train.histories, own.histories, strict=False):
        assert found.tolist() == wanted.tolist() and len(found) == 2
    assert all(len(history) == 0 for history in train.histories[len(own) :])
    assert dev.histories is not None


def test_no_histories_no_column(tiny):
    """Texts alone stay texts alone."""
    train, _ = training_queries(recipe(), tiny, 0)
    assert train.histories is None
    assert build(recipe(), tiny, seed=0).model.encoder.history is None


def test_they_can_be_left_unread(walks):
    """`queries.history=false` builds a model of texts."""
    start = build(recipe("queries.history=false"), load_data(walks), seed=0)
    assert start.model.encoder.history is None and start.data.train.histories is None


def test_an_untrained_model_is_that_of_the_text(walks):
    """What reads histories starts silent; it learns, since its last scale has a gradient."""
    start = build(recipe(), load_data(walks), seed=0)
    model, source = start.model, start.data.train
    model.set_vectors(pooled_vectors(model, start.data.items))
    inputs = source.batch(np.arange(8))
    text = {name: value for name, value in inputs.items() if name != "history"}
    assert set(inputs) - set(text) == {"history"}
    together, alone = model.encode_query(**inputs), model.encode_query(**text)
    torch.testing.assert_close(together.pooler_output, alone.pooler_output)
    assert together.last_hidden_state.shape[1] == 1 + 2
    (together.pooler_output * torch.randn(8, 24)).sum().backward()
    assert model.encoder.history.norm.weight.grad.abs().sum() > 0


def test_an_empty_history_adds_nothing(walks):
    """Whatever was learned, a query without one is that of its text."""
    start = build(recipe(), load_data(walks), seed=0)
    model = start.model.eval()
    torch.nn.init.normal_(model.encoder.history.norm.weight)
    torch.nn.init.normal_(model.encoder.history.norm.bias)
    model.set_vectors(pooled_vectors(model, start.data.items))
    inputs = start.data.train.batch(np.array([0, 60]))  # a query of the data and a made one
    assert (inputs["history"][1] < 0).all()
    text = {name: value for name, value in inputs.items() if name != "history"}
    with torch.no_grad():
        together = model.encode_query(**inputs).pooler_output
        alone = model.encode_query(**text).pooler_output
    torch.testing.assert_close(together[1], alone[1])
    assert not torch.allclose(together[0], alone[0], atol=1e-3)


def test_a_frozen_text_encoder_leaves_the_reader_of_histories(walks, bert_folder):
    """`encoder` then stands for what reads histories, and for nothing where there are none."""
    data = load_data(walks)
    wish = load_recipe("dgi", [f"encoder={bert_folder}", "items.layers=1"])
    start = build(wish, data, seed=0)
    assert start.model.encoder.history is not None
    assert next(stage.train for stage in wish.stages) == ["history", "adapter"]
    plain = load_recipe("dgi", [f"encoder={bert_folder}", "queries.history=false"])
    build(plain, data, seed=0)
    assert next(stage.train for stage in plain.stages) == ["adapter"]


def test_odd_widths_have_a_head_that_divides_them(walks):
    """The bag may be narrower than wished."""
    start = build(recipe("bag.dim=23"), load_data(walks), seed=0)
    assert start.model.config.history_encoder["heads"] == 1


def test_trained_with_histories_it_reads_them(walks, tmp_path):
    """What comes next is found with the history and not without, also from the saved folder."""
    settings = [
        *SMALL,
        *("stages.encoder.epochs=50", "stages.encoder.batch_size=32"),
        *("stages.encoder.learning_rate=1e-2", "stages.joint.epochs=8", "stages.final.epochs=8"),
        *("stages.joint.batch_size=32", "stages.final.batch_size=32", "search.beams=9"),
    ]
    api.train(walks, "dgi", tmp_path / "out", settings)
    found = api.evaluate_checkpoint(tmp_path / "out", walks, systems=["generative", "dense"])
    assert found["systems"]["generative"]["metrics"]["ndcg@10"]["mean"] > 0.6
    retriever = GenRetriever.from_pretrained(tmp_path / "out", device="cpu")
    test = load_data(walks).split("test")
    histories = [[retriever.documents[row]["id"] for row in rows] for rows in test.histories]
    reads = retriever.search(test.texts, history=histories, k=1)
    without = retriever.search(test.texts, k=1)
    targets = [retriever.documents[next(iter(gains))]["id"] for gains in test.relevant]

    def right(hits) -> int:
        return sum(own[0].id == wanted for own, wanted in zip(hits, targets, strict=True))

    assert right(reads) > 2 * right(without)
    assert right(reads) > 0.25 * len(targets)  # by chance among a theme: an eighth


def test_documents_and_queries_of_other_kinds_still_build(tiny):
    """A part with histories and a part without text."""
    documents = Documents(list("abc"), ["red fox", "blue whale", "green tree"], ["x"] * 3)
    train = Queries(["q", "r"], [{0: 1.0}, {1: 1.0}], ["fox", ""], [np.array([2]), np.array([0])])
    start = build(
        recipe("model.codebook_sizes=[2, 2]"),
        RetrievalData("t", "0", documents, {"train": train}),
        seed=0,
    )
    batch = start.data.train.batch(np.array([0, 1]))
    assert batch["history"].tolist() == [[2], [0]]
    assert tiny.splits["train"].histories is None

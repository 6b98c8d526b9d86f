"""Documents that training does without: hidden from it, coded afterwards, measured apart."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret import GenRetriever
from hf_genret.data import Queries, RetrievalData, load_data
from hf_genret.encoding import ItemSource
from hf_genret.errors import ConfigError
from hf_genret.indexing.by_model import level_log_probs
from hf_genret.training import api
from hf_genret.training.new_documents import (
    FILE,
    NewDocuments,
    known_rows,
    without_documents,
    without_labels,
)
from hf_genret.training.recipes import load_recipe
from hf_genret.training.runs import row_codes

SMALL = [
    "bag={vocab_size: 300, dim: 16}",
    "model.decoder_dim=16",
    "model.decoder_heads=2",
    "model.decoder_layers=1",
    "queries.pseudo=2",
    "search.beam_weights=[0.0]",
]


def short(*settings: str) -> list[str]:
    out = [*SMALL, *settings]
    for stage in load_recipe("fixed", settings).stages:
        for name, value in (("max_steps", 3), ("batch_size", 32), ("evaluations", 1)):
            out.append(f"stages.{stage.name}.{name}={value}")
    return out


# ---- which they are -----------------------------------------------------------------------


@pytest.mark.parametrize(("share", "hidden"), [(0.0, 0), (0.1, 6), (0.25, 15), (0.9, 54)])
def test_as_many_as_wished(tiny, share, hidden):
    """A share of the documents, the same for a seed and others for another."""
    wish = NewDocuments(share)
    known = known_rows(tiny, wish, 3)
    assert (~known).sum() == hidden and known.dtype == bool
    assert np.array_equal(known_rows(tiny, wish, 3), known)
    if hidden:
        assert not np.array_equal(known_rows(tiny, wish, 4), known)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_a_share_that_is_none(tiny, share):
    """From 0 to below 1; one sentence otherwise."""
    with pytest.raises(ConfigError, match=r"new_documents\.share is .*from 0 to below 1"):
        known_rows(tiny, NewDocuments(share), 0)


@pytest.fixture
def judged() -> tuple[RetrievalData, np.ndarray]:
    """Four documents, the second new; queries for known, new, both, and none."""
    from hf_genret.data import Documents

    documents = Documents(list("abcd"), ["A", "B", "C", "D"], ["x"] * 4)
    relevant = [{0: 1.0}, {1: 1.0}, {1: 1.0, 2: 2.0}, {3: 1.0, 2: 1.0}]

    def split(name: str) -> Queries:
        return Queries([f"{name}{i}" for i in range(4)], relevant, [f"text {i}" for i in range(4)])

    splits = {name: split(name) for name in ("train", "dev", "test")}
    return RetrievalData("four", "f" * 16, documents, splits), np.asarray([1, 0, 1, 1], dtype=bool)


def test_labels_of_new_documents_go(judged):
    """Training and dev queries with a new document among their answers; corpus and test stay."""
    data, known = judged
    found = without_labels(data, known)
    assert found.documents is data.documents and found.splits["test"] is data.splits["test"]
    for name in ("train", "dev"):
        assert found.splits[name].ids == [f"{name}0", f"{name}3"]
        assert found.splits[name].relevant == [{0: 1.0}, {3: 1.0, 2: 1.0}]


def test_new_documents_go_altogether(judged):
    """The rest is numbered anew, with its texts, judgments and gains; there is no test split."""
    found = without_documents(*judged)
    assert found.documents.ids == ["a", "c", "d"] and found.documents.titles == ["A", "C", "D"]
    assert set(found.splits) == {"train", "dev"}
    assert found.splits["train"].relevant == [{0: 1.0}, {2: 1.0, 1: 1.0}]
    assert found.splits["train"].texts == ["text 0", "text 3"]


def test_the_data_stay_as_they_were(judged):
    """Nothing is changed in place."""
    data, known = judged
    without_documents(data, known)
    assert data.splits["train"].relevant[3] == {3: 1.0, 2: 1.0} and len(data.documents) == 4


# ---- training without them ----------------------------------------------------------------


class Trained(SimpleNamespace):
    """A checkpoint, what its training saw, the documents it did without, and its report."""


def train(folder: Path, out: Path, *settings: str) -> Trained:
    seen: list[Any] = []
    real = api.build

    def build(*args: Any, **kwargs: Any) -> Any:
        seen.append((args[1], real(*args, **kwargs)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "build", build)
        report = api.train(folder, "fixed", out, short(*settings), seed=2)
    ((data, start),) = seen
    new = set(json.loads((out / FILE).read_text()))
    return Trained(out=out, report=report, seen=data, start=start, new=new)


@pytest.fixture(scope="module")
def zero_shot(tmp_path_factory, small_folder) -> Trained:
    """A quarter of 80 documents hidden altogether."""
    out = tmp_path_factory.mktemp("new") / "out"
    return train(small_folder, out, "new_documents.share=0.25")


@pytest.fixture(scope="module")
def with_queries(tmp_path_factory, small_folder) -> Trained:
    """A quarter without labelled queries; made ones take part."""
    out = tmp_path_factory.mktemp("new") / "out"
    return train(small_folder, out, "new_documents.share=0.25", "new_documents.queries=true")


@pytest.fixture(scope="module")
def data(small_folder) -> RetrievalData:
    return load_data(small_folder)


def open_one(trained: Trained) -> GenRetriever:
    return GenRetriever.from_pretrained(trained.out, device="cpu")


def test_training_never_saw_them(zero_shot, data):
    """Neither document nor query, whoever made it; dev neither."""
    start = zero_shot.start
    assert len(zero_shot.new) == 20 and len(start.data.items) == 60
    assert zero_shot.new.isdisjoint(zero_shot.seen.documents.ids)
    rows = {name: row for row, name in enumerate(zero_shot.seen.documents.ids)}
    asked = {name: data.splits[name] for name in ("train", "dev")}
    for name, queries in asked.items():
        kept = {
            i: {data.documents.ids[row] for row in gains}
            for i, gains in zip(queries.ids, queries.relevant, strict=True)
            if zero_shot.new.isdisjoint(data.documents.ids[row] for row in gains)
        }
        source = {"train": start.data.train, "dev": start.data.dev}[name].queries
        own = [number for number, i in enumerate(source.ids) if i in set(queries.ids)]
        assert {source.ids[n] for n in own} == set(kept) and len(kept) < len(queries)
        for n in own:
            assert set(source.relevant[n]) == {rows[doc] for doc in kept[source.ids[n]]}
    assert max(start.data.pair_row) < 60


def test_words_of_new_documents_are_no_words_of_the_model(zero_shot):
    """The tokenizer and the encoder's start come from the known documents."""
    from hf_genret.training.bag import train_tokenizer

    texts = zero_shot.seen.documents.full_texts()
    expected = train_tokenizer(texts, vocab_size=300, seed=2).get_vocab()
    assert open_one(zero_shot).processing_class.get_vocab() == expected


def test_the_checkpoint_has_them_all(zero_shot, data):
    """In the data's order, each with an id and a vector, and none lost from the index."""
    retriever = open_one(zero_shot)
    assert retriever.documents.ids == data.documents.ids
    model = retriever.model
    assert model.config.num_documents == 80 and sorted(model.index.rows.tolist()) == list(range(80))
    assert model.vectors.shape == (80, 16) and float(model.vectors.norm(dim=1).min()) > 0.99


def test_known_documents_keep_their_ids(zero_shot, data):
    """Balanced over the 60; what the training ended with stands in the checkpoint."""
    retriever = open_one(zero_shot)
    known = [row for row, name in enumerate(data.documents.ids) if name not in zero_shot.new]
    codes = row_codes(retriever.model)[known]
    sizes = retriever.model.config.codebook_sizes
    for level in range(2):
        nodes = codes[:, 0] if level == 0 else codes[:, 0] * sizes[1] + codes[:, 1]
        loads = np.bincount(nodes, minlength=int(np.prod(sizes[: level + 1])))
        assert loads.max() - loads.min() <= 1 and loads.sum() == 60


def test_new_documents_are_coded_by_the_model(zero_shot, data):
    """Each its most probable code, level by level, as the checkpoint sees it."""
    retriever = open_one(zero_shot)
    model, codes = retriever.model, row_codes(retriever.model)
    source = ItemSource(model, data.documents, retriever.processing_class)
    new = [row for row, name in enumerate(data.documents.ids) if name in zero_shot.new]
    for level in range(2):
        best = level_log_probs(model, source, codes, level).argmax(1)
        assert np.array_equal(codes[new, level], best[new])


def test_new_documents_are_found(zero_shot, data):
    """By their own title, with every leaf visited."""
    retriever = open_one(zero_shot)
    for name in sorted(zero_shot.new)[:5]:
        row = data.documents.ids.index(name)
        text = data.documents.full_text(row)
        tokens = retriever.processing_class(text, return_tensors="pt")
        inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
        assert int(retriever.model.search(k=1, num_beams=25, **inputs).rows[0, 0]) == row


def test_the_report_sets_them_apart(zero_shot, data):
    """Existing, new content and new semantic, each the mean over its own queries."""
    found = api.evaluate_checkpoint(zero_shot.out, data, systems=["generative", "dense"])
    codes = row_codes(open_one(zero_shot).model)
    old = {tuple(codes[r]) for r, n in enumerate(data.documents.ids) if n not in zero_shot.new}
    labels = []
    for gains in data.splits["test"].relevant:
        (row,) = gains
        new = data.documents.ids[row] in zero_shot.new
        place = "new_content" if tuple(codes[row]) in old else "new_semantic"
        labels.append(place if new else "existing")
    assert {"existing", "new_content"} <= set(labels)
    for entry in found["systems"].values():
        groups = entry["content"]
        total = 0.0
        for name in set(labels):
            assert groups[name]["queries"] == labels.count(name)
            total += labels.count(name) * groups[name]["metrics"]["ndcg@10"]["mean"]
        assert total / len(labels) == pytest.approx(entry["metrics"]["ndcg@10"]["mean"])


def test_hidden_documents_are_not_seen_ones(zero_shot, data):
    """Their queries in the data's training split were not trained on, so they are unseen."""
    found = api.evaluate_checkpoint(zero_shot.out, data, systems=["dense"])["systems"]["dense"]
    trained = {
        row
        for gains in data.splits["train"].relevant
        for row in gains
        if data.documents.ids[row] not in zero_shot.new
    }
    seen = sum(set(gains) <= trained for gains in data.splits["test"].relevant)
    assert found["seen"]["queries"] == seen


def test_the_corpus_stays_whole_with_queries(with_queries, data):
    """Every document takes part from the start; made queries of new ones too, labelled ones not."""
    start, new = with_queries.start, with_queries.new
    assert with_queries.seen.documents.ids == data.documents.ids and len(start.data.items) == 80
    rows = {row for row, name in enumerate(data.documents.ids) if name in new}
    labelled = set(data.splits["train"].ids)
    train = start.data.train.queries
    asked: dict[bool, set[int]] = {True: set(), False: set()}
    for name, gains in zip(train.ids, train.relevant, strict=True):
        asked[name in labelled] |= set(gains)
    assert not rows & asked[True] and asked[True]
    assert rows <= asked[False]


def test_with_queries_all_ids_are_given_in_training(with_queries):
    """Balanced over all 80, nothing is coded afterwards."""
    codes = row_codes(open_one(with_queries).model)
    loads = np.bincount(codes[:, 0] * 5 + codes[:, 1], minlength=25)
    assert set(loads.tolist()) == {3, 4}


def test_both_protocols_are_reported(with_queries, data):
    """A new document shares a leaf with known ones, or has one of its own."""
    found = api.evaluate_checkpoint(with_queries.out, data, systems=["generative"])
    content = found["systems"]["generative"]["content"]
    assert sum(group["queries"] for group in content.values()) == len(data.splits["test"])
    assert sum(content[n]["queries"] for n in content if n.startswith("new")) > 0


def test_without_new_documents_nothing_is_set_apart(tmp_path, small_folder):
    """No file, no groups."""
    api.train(small_folder, "dense", tmp_path / "out", [*SMALL, "stages.encoder.max_steps=1"])
    assert not (tmp_path / "out" / FILE).exists()
    found = api.evaluate_checkpoint(tmp_path / "out", small_folder, systems=["dense"])
    assert "content" not in found["systems"]["dense"]


def test_a_saved_copy_is_still_measured(zero_shot, data, tmp_path):
    """What was new is part of the checkpoint: a copy of the folder knows it."""
    import shutil

    shutil.copytree(zero_shot.out, tmp_path / "copy")
    found = api.evaluate_checkpoint(tmp_path / "copy", data, systems=["dense"])
    assert "content" in found["systems"]["dense"]


def test_an_interrupted_run_goes_on(zero_shot, tmp_path, small_folder, monkeypatch):
    """Killed before publishing: the same documents are hidden, the same ids come out."""

    def fail(*_: Any, **__: Any) -> None:
        raise InterruptedError

    settings = short("new_documents.share=0.25")
    with monkeypatch.context() as patch:
        patch.setattr(api, "code_new", fail)
        with pytest.raises(InterruptedError):
            api.train(small_folder, "fixed", tmp_path / "out", settings, seed=2)
    api.train(small_folder, "fixed", tmp_path / "out", settings, seed=2, resume=True)
    assert set(json.loads((tmp_path / "out" / FILE).read_text())) == zero_shot.new
    found = GenRetriever.from_pretrained(tmp_path / "out", device="cpu").model
    assert np.array_equal(row_codes(found), row_codes(open_one(zero_shot).model))


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [("uri", []), ("fixed", ["controls=[kmeans]"]), ("fixed", [])],
)
def test_what_cannot_be_coded_later(tmp_path, small_folder, sequence_folder, recipe, settings):
    """Controls, and items known by their number: one sentence before anything is trained."""
    folder = small_folder if recipe == "uri" or settings else sequence_folder
    with pytest.raises(ConfigError, match="new_documents needs a text recipe and no controls"):
        api.train(folder, recipe, tmp_path / "out", [*settings, "new_documents.share=0.2"])
    assert not (tmp_path / "out.run").exists()


def test_ids_from_elsewhere_know_all_documents(tmp_path, small_folder):
    """A file of ids leaves nothing to code later: refused, and the way out named."""
    settings = short("ids=file:ids.tsv", "new_documents.share=0.25")
    with pytest.raises(ConfigError, match=r"ids=file:ids.tsv has an id for every document.*hides"):
        api.train(small_folder, "fixed", tmp_path / "out", settings)
    assert not (tmp_path / "out.run").exists()


def test_the_random_state_is_not_shared(tiny):
    """Which documents are new is no function of what was drawn before."""
    first = known_rows(tiny, NewDocuments(0.3), 0)
    torch.manual_seed(9)
    np.random.default_rng(0).random(100)
    assert np.array_equal(known_rows(tiny, NewDocuments(0.3), 0), first)

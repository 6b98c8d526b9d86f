"""Ids that are given: what each name makes, from a workshop and through whole trainings."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_genret import GenRetriever
from hf_genret.data import Documents, Queries, load_data
from hf_genret.encoding import QuerySource, pooled_vectors
from hf_genret.errors import CheckpointError, ConfigError, DataError
from hf_genret.indexing import hierarchical_kmeans
from hf_genret.indexing.id_files import write_ids
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.training import api, given
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.given import FROM_DATA, GIVEN, SEVERAL, give_codes, ids_from_data
from hf_genret.training.recipes import load_recipe
from hf_genret.training.runs import row_codes
from hf_genret.training.workshop import Workshop

STAGE = stages_from([{"name": "s", "objective": "cross_entropy", "train": ["heads"]}])[0]
SIZES = [4, 3]


@pytest.fixture
def shop_of(model_on, pairs_of):
    """A workshop on data, with an untrained model."""

    def make(data: Any, seed: int = 0, **changes: Any) -> Workshop:
        model, tokenizer = model_on(data, **changes)
        state = RunState.fresh(len(data.documents), model.config.num_levels)
        return Workshop(model, pairs_of(data, model, tokenizer), state, STAGE, seed)

    return make


@pytest.fixture(autouse=True)
def short_autoencoders(monkeypatch):
    """Some steps of the learned quantizers are enough to see that they give ids."""
    for name in ("rq_vae", "vq_vae"):
        monkeypatch.setattr(given, name, partial(getattr(given, name), steps=40, hidden=16))


# ---- what each name makes -----------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(GIVEN) - set(SEVERAL)))
def test_codes_are_in_range(shop_of, tiny, name):
    """One id a document, int64, every code below its level's size; no level collapses."""
    codes = give_codes(shop_of(tiny), name)
    assert codes.shape == (60, 2) and codes.dtype == torch.int64
    for level, size in enumerate(SIZES):
        assert int(codes[:, level].min()) >= 0 and int(codes[:, level].max()) < size
        assert len(codes[:, level].unique()) > 1


@pytest.mark.parametrize("name", list(GIVEN))
def test_the_same_seed_gives_the_same_ids(shop_of, tiny, name):
    """Twice, from two workshops."""
    assert torch.equal(give_codes(shop_of(tiny, 4), name), give_codes(shop_of(tiny, 4), name))


def test_kmeans_is_balanced_at_every_node(shop_of, tiny):
    """60 documents below 4 and 12 nodes: 15 and 5 each; `em` begins there."""
    shop = shop_of(tiny)
    codes = give_codes(shop, "kmeans")
    assert torch.bincount(codes[:, 0]).tolist() == [15] * 4
    assert torch.bincount(codes[:, 0] * 3 + codes[:, 1]).tolist() == [5] * 12
    assert torch.equal(give_codes(shop, "em"), codes)


def test_random_ids_know_nothing_of_the_documents(shop_of, tiny, make_data):
    """The number of documents and the seed alone decide them."""
    other = make_data()
    other.documents = Documents(other.documents.ids, [""] * 60, ["bada lilu"] * 60)
    codes = give_codes(shop_of(tiny), "random")
    assert torch.equal(give_codes(shop_of(other), "random"), codes)
    assert not torch.equal(give_codes(shop_of(tiny, seed=1), "random"), codes)


def test_query_kmeans_clusters_documents_as_their_queries_see_them(shop_of, tiny):
    """The mean of a document's vector and its training queries', written as a loop."""
    shop = shop_of(tiny)
    queries = pooled_vectors(shop.model, shop.data.train).numpy()
    expected = []
    for row, vector in enumerate(shop.vectors):
        mine = [
            q for q, r in zip(shop.data.pair_query, shop.data.pair_row, strict=True) if r == row
        ]
        mean = np.mean([vector, *(queries[q] for q in mine)], axis=0)
        expected.append(mean / np.linalg.norm(mean))
    wanted = hierarchical_kmeans(np.stack(expected), SIZES, seed=0, cosine=True)
    assert np.array_equal(give_codes(shop, "query_kmeans").numpy(), wanted)


def test_collaborative_ids_put_together_what_is_asked_for_together(shop_of, make_data):
    """Four sets of documents of any topic, each asked for as a whole: they become the clusters."""
    data = make_data()
    sets = [list(range(first, 60, 4)) for first in range(4)]  # 8 topics: two in each set
    order = np.random.default_rng(0).permutation(60)
    sets = [[int(order[row]) for row in rows] for rows in sets]  # now of all topics
    wanted = [dict.fromkeys(rows, 1.0) for rows in sets for _ in range(10)]
    texts = [data.documents.titles[next(iter(gains))] for gains in wanted]
    data.splits = {"train": Queries([f"q{i}" for i in range(40)], wanted, texts)}

    def purity(codes: torch.Tensor) -> float:
        return sum(int(torch.bincount(codes[rows, 0]).max()) for rows in sets) / 60

    shop = shop_of(data)
    assert (
        purity(give_codes(shop, "collaborative")) > 0.9 > 0.6 > purity(give_codes(shop, "kmeans"))
    )


def test_a_history_s_items_are_taken_together_too(sequence_data):
    """On recommendation data users count, with all they took; ids are in range there as well."""
    from hf_genret.training.build import build

    small = ["items={dim: 16, feature_dim: 8, layers: 1}", "model.decoder_dim=16"]
    start = build(load_recipe("fixed", small, "sequential"), sequence_data, seed=0)
    shop = Workshop(start.model, start.data, RunState.fresh(200, 2), STAGE, 0)
    for name in ("collaborative", "query_kmeans"):
        codes = give_codes(shop, name)
        assert codes.min() >= 0 and (codes < torch.tensor(shop.sizes)).all()


# ---- ids that the data alone decide -------------------------------------------------------


def documents(*titles: str) -> Documents:
    return Documents([f"d{i}" for i in range(len(titles))], list(titles), ["some text"] * 4)


def test_one_leaf_for_all():
    """`none`: a single code."""
    codes, sizes = ids_from_data(
        "none",
        documents(*"abcd"),
    )
    assert codes.tolist() == [[0]] * 4 and sizes == [1]


def test_a_code_for_every_document():
    """`atomic`: as many codes as documents, in order."""
    codes, sizes = ids_from_data("atomic", documents(*"abcd"))
    assert codes.tolist() == [[0], [1], [2], [3]] and sizes == [4]


def test_titles_that_begin_alike_share_codes_that_begin_alike():
    """Six tokens by default, a number of one's own after the colon; equal titles are equal ids."""
    found = documents("red fox", "red fox", "red whale", "green tree of many more words than six")
    codes, sizes = ids_from_data("title", found)
    assert codes.shape == (4, 6) and sizes == [int(codes.max()) + 1] * 6
    assert codes[0].tolist() == codes[1].tolist() != codes[2].tolist()
    assert codes[0, 0] == codes[2, 0] != codes[3, 0]
    assert codes[3].min() > 0 and codes[0, -1] == 0  # the end of a short one
    short, sizes = ids_from_data("title:2", found)
    assert short.shape == (4, 2) and len(sizes) == 2 and short.min() > 0


def test_a_document_without_a_title_is_named_by_its_text():
    """The text's first words."""
    found = documents("red fox", "", "red whale", "some text")
    codes, _ = ids_from_data("title", found)
    assert codes[1].tolist() == codes[3].tolist() and codes[1, 0] != 0


def test_a_file_gives_each_document_its_id(tmp_path):
    """Whatever the order of its lines."""
    (tmp_path / "ids.tsv").write_text("d2\t1-0\nd0\t0-4\nd3\t1-1\nd1\t0-0\n")
    codes, sizes = ids_from_data(f"file:{tmp_path / 'ids.tsv'}", documents(*"abcd"))
    assert codes.tolist() == [[0, 4], [0, 0], [1, 0], [1, 1]] and sizes == [2, 5]


def test_other_names_need_a_model():
    """They are not known from the data."""
    assert all(ids_from_data(name, documents(*"abcd")) is None for name in GIVEN)


def test_ids_of_the_data_have_to_be_the_recipe_s_own(shop_of, tiny):
    """Their sizes are those of the model, so that a stage alone cannot ask for them."""
    for name in FROM_DATA:
        with pytest.raises(ConfigError, match=f"ids: '{name}' has to be the recipe's own"):
            give_codes(shop_of(tiny), name)
    with pytest.raises(ConfigError, match=r"'atomic' has to be the recipe's own \(ids=atomic\)"):
        load_recipe("fixed", ["ids=title", "stages.ids.before.ids=atomic"])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("kmean", "Unknown ids 'kmean'; did you mean 'kmeans'"),
        ("file", "ids=file needs a place: ids=file:PATH"),
    ],
)
def test_mistakes_in_a_recipe(ids, message):
    """One sentence, before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        load_recipe("fixed", [f"ids={ids}"])


def test_ids_of_another_checkpoint(tmp_path, make_data):
    """Each document keeps the id it has there, whatever its row here; an unknown one is refused."""
    data = make_data(12)
    model = GenRetModel(GenRetConfig(vector_dim=8, codebook_sizes=[3, 5]))
    codes = torch.stack([torch.arange(12) % 3, torch.arange(12) % 5], dim=1)
    model.set_index(codes, vectors=torch.zeros(12, 8))
    GenRetriever(model, None, data.documents).save_pretrained(tmp_path / "other")
    order = np.arange(12)[::-1]
    found = ids_from_data(f"checkpoint:{tmp_path / 'other'}", data.documents.take(order))
    assert found is not None and found[1] == [3, 5]
    assert np.array_equal(found[0], codes.numpy()[order])
    with pytest.raises(CheckpointError, match=r"has no id for 8 documents \(d12\)"):
        ids_from_data(f"checkpoint:{tmp_path / 'other'}", make_data(20).documents)


# ---- whole trainings ----------------------------------------------------------------------

SMALL = [
    "bag={vocab_size: 300, dim: 16}",
    "model.decoder_dim=16",
    "model.decoder_heads=2",
    "model.decoder_layers=1",
    "queries.pseudo=1",
    "search.beam_weights=[0.0]",
]


def short(recipe: str, *settings: str) -> list[str]:
    """Three steps of every stage."""
    out = [*settings, *SMALL]
    for stage in load_recipe(recipe, settings).stages:
        for name, value in (("max_steps", 3), ("batch_size", 32), ("evaluations", 1)):
            out.append(f"stages.{stage.name}.{name}={value}")
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_folder):
    """Checkpoints of `fixed` by setting, each trained once."""
    known: dict[str, Path] = {}

    def get(recipe: str, *settings: str) -> Path:
        key = " ".join([recipe, *settings])
        if key not in known:
            known[key] = tmp_path_factory.mktemp("given") / "out"
            api.train(small_folder, recipe, known[key], short(recipe, *settings))
        return known[key]

    return get


def open_one(folder: Path) -> GenRetriever:
    return GenRetriever.from_pretrained(folder, device="cpu")


def written(retriever: GenRetriever, queries: list[str], **settings: Any) -> set[tuple[int, ...]]:
    """Ids that transformers' generate() writes, as codes."""
    model = retriever.model
    tokens = retriever.processing_class(queries, return_tensors="pt", padding=True)
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    offsets = torch.tensor(model.config.level_offsets)
    found = model.generate(**inputs, **settings)[:, 1:] - offsets
    return set(map(tuple, found.tolist()))


def test_ids_of_a_file_are_those_of_the_checkpoint(trained, tmp_path, small_folder):
    """Codes, sizes and document order, through training, saving and loading."""
    names = load_data(small_folder).documents.ids
    codes = np.stack([np.arange(80) % 7, np.arange(80) // 7], axis=1)
    shuffled = np.random.default_rng(0).permutation(80)
    write_ids(tmp_path / "ids.jsonl", [names[i] for i in shuffled], codes[shuffled])
    retriever = open_one(trained("fixed", f"ids=file:{tmp_path / 'ids.jsonl'}"))
    assert retriever.model.config.codebook_sizes == [7, 12]
    assert np.array_equal(row_codes(retriever.model), codes)
    hit = retriever.search(retriever.documents[3]["title"], k=1)[0]
    assert list(hit.docid) == codes[names.index(hit.id)].tolist()


def test_a_faulty_file_is_one_sentence(tmp_path, small_folder):
    """File, line and field; nothing was trained."""
    file = tmp_path / "ids.tsv"
    file.write_text("d0\t0-1\nd1\tone-two\n")
    with pytest.raises(DataError, match=r"ids.tsv.*2.*whole numbers") as caught:
        api.train(small_folder, "fixed", tmp_path / "out", short("fixed", f"ids=file:{file}"))
    assert "\n" not in str(caught.value) and caught.value.line == 2
    file.write_text("d0\t0-1\n")
    with pytest.raises(DataError, match="expected an id for each of 80 documents"):
        api.train(small_folder, "fixed", tmp_path / "out", short("fixed", f"ids=file:{file}"))
    with pytest.raises(DataError, match=r"nowhere\.tsv"):
        load = short("fixed", "ids=file:nowhere.tsv")
        api.train(small_folder, "fixed", tmp_path / "out", load)
    assert not (tmp_path / "out.run").exists()


@pytest.mark.parametrize("settings", [("fixed:title",), ("fixed", "ids=title")], ids=str)
def test_titles_are_searched_and_generated(trained, small_folder, settings):
    """Shared plain heads, or cluster heads: whatever is written is some document's title."""
    retriever = open_one(trained(*settings))
    model, found = retriever.model, load_data(small_folder)
    codes, sizes = ids_from_data("title", found.documents)
    assert model.config.codebook_sizes == sizes
    assert np.array_equal(row_codes(model), codes)
    assert model.config.share_levels == (settings[0] == "fixed:title")
    real = set(map(tuple, codes.tolist()))
    queries = found.splits["test"].texts[:6]
    torch.manual_seed(0)
    assert written(retriever, queries, num_beams=4, num_return_sequences=4) <= real
    assert written(retriever, queries, do_sample=True, temperature=5.0, top_k=0) <= real
    for hits in retriever.search(queries, k=5):
        assert hits and all(list(hit.docid) == codes[int(hit.id[1:])].tolist() for hit in hits)


def test_shared_heads_are_one_map(trained):
    """One head and one embedding for the six levels of a title."""
    model = open_one(trained("fixed:title")).model
    assert (
        len(model.heads.maps) == 1
        and model.config.vocab_size == 1 + model.heads.maps[0].out_features
    )


def test_a_wide_beam_over_titles_is_exhaustive(trained, small_folder):
    """Every document is ranked, as by its vectors alone."""
    retriever = open_one(trained("fixed:title"))
    queries = load_data(small_folder).splits["test"].texts[:8]
    source = QuerySource(
        retriever.model, Queries([""] * 8, [{}] * 8, queries), retriever.processing_class
    )
    scores = pooled_vectors(retriever.model, source) @ retriever.model.vectors.float().T
    expected = scores.topk(5).indices.tolist()
    found = retriever.model.search(k=5, num_beams=80, **source.batch(np.arange(8)))
    assert found.rows.tolist() == expected and found.pool.tolist() == [80] * 8


def test_atomic_ids_are_one_level(trained, small_folder):
    """Each document its own code, started at its own vector: found by its own title."""
    retriever = open_one(trained("fixed", "ids=atomic"))
    assert retriever.model.config.codebook_sizes == [80]
    assert row_codes(retriever.model)[:, 0].tolist() == list(range(80))
    found = api.evaluate_checkpoint(
        trained("fixed", "ids=atomic"), small_folder, systems=["generative", "random"]
    )["systems"]
    figures = {name: entry["metrics"]["ndcg@10"]["mean"] for name, entry in found.items()}
    assert figures["generative"] > 3 * figures["random"]
    assert found["generative"]["documents_ranked"] == 80  # a small corpus is searched whole


def test_unconstrained_beams_may_write_titles_that_nobody_has(trained, small_folder):
    """What is found is real either way, and the run says how much of what was written is not."""
    from hf_genret.dataset_search import search_dataset

    retriever = open_one(trained("fixed:title"))
    split = load_data(small_folder).splits["test"]
    held, free = (
        search_dataset(
            retriever.model, retriever.processing_class, split, num_beams=4, constrained=constrained
        )
        for constrained in (True, False)
    )
    assert "invalid_ids" not in held.facts and free.facts["invalid_ids"] > 0.5
    assert sum(map(len, free.pools)) < sum(map(len, held.pools))


def test_em_moves_the_ids_once_more(trained):
    """A stage of its own, which other ids leave out; capacity is exact afterwards."""
    folders = {name: trained("fixed", *settings) for name, settings in RUNS.items()}
    logs = {name: json.loads((at / "training.json").read_text()) for name, at in folders.items()}
    stages = {name: [stage["stage"] for stage in log["stages"]] for name, log in logs.items()}
    assert stages["em"] == ["encoder", "ids", "em", "final", "ranker"]
    assert stages["kmeans"] == ["encoder", "ids", "final"]
    assert "leaves_changed" in logs["em"]["stages"][2]
    codes = row_codes(open_one(folders["em"]).model)
    assert set(np.unique(codes[:, 0] * 5 + codes[:, 1], return_counts=True)[1]) <= {3, 4}


RUNS = {"em": ("ids=em",), "kmeans": ("stages.ranker.skip=true",)}


def test_ids_come_from_the_trained_encoder(trained):
    """k-means of the vectors after the first stage, which the later ones leave alone here."""
    model = open_one(trained("fixed", *RUNS["kmeans"])).model
    vectors, sizes = model.vectors.numpy(), model.config.codebook_sizes
    wanted = hierarchical_kmeans(vectors, sizes, seed=0, cosine=True)
    assert np.array_equal(row_codes(model), wanted)


def test_no_ids_are_dense_retrieval(trained, small_folder):
    """`dense`: one leaf, everything ranked, the same figures as an exhaustive ranking."""
    folder = trained("dense")
    assert open_one(folder).model.config.codebook_sizes == [1]
    report = api.evaluate_checkpoint(folder, small_folder, systems=["generative", "dense"])
    entries = report["systems"]
    assert entries["generative"]["documents_ranked"] == 80
    assert entries["generative"]["metrics"]["ndcg@10"] == entries["dense"]["metrics"]["ndcg@10"]

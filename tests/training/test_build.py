"""From a recipe and data to a model: sizes, bounds, queries, encoders, LoRA, and mistakes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from hf_genret.adapters import merge_lora
from hf_genret.data import Documents, Queries, RetrievalData
from hf_genret.encoding import pooled_vectors
from hf_genret.errors import ConfigError, DataError
from hf_genret.training.build import build, codebook_sizes, search_beams, training_queries
from hf_genret.training.recipes import TextSettings, load_recipe
from hf_genret.training.text_encoder import load_backbone

SMALL = ["bag={vocab_size: 300, dim: 16}", "model.decoder_dim=16", "model.decoder_heads=2"]


def recipe(*settings: str, name: str = "uri"):
    return load_recipe(name, [*SMALL, *settings] if name == "uri" else list(settings))


# ---- sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("documents", "levels", "per_leaf", "expected"),
    [(1000, 2, 10, [10, 10]), (8000, 3, 8, [10, 10, 10]), (60, 2, 3, [4, 4]), (5, 1, 1, [5])],
)
def test_codebooks_for_the_wished_leaves(documents, levels, per_leaf, expected):
    """K^L leaves of about so many documents, never fewer than two codes a level."""
    wish = recipe(f"levels={levels}", f"documents_per_leaf={per_leaf}")
    assert codebook_sizes(wish, documents) == expected
    assert codebook_sizes(wish, 3)[0] >= 2


@pytest.mark.parametrize(
    ("documents", "levels", "shrink", "expected"),
    [(1398, 2, 4, [43, 11]), (64_000, 3, 4, [111, 28, 7]), (6, 2, 9, [4, 2]), (90, 1, 4, [30])],
)
def test_codebooks_that_shrink(documents, levels, shrink, expected):
    """As many leaves, each level so many times smaller than the one before; never below two."""
    wish = recipe(f"levels={levels}", f"shrink={shrink}")
    assert codebook_sizes(wish, documents) == expected


def test_codebooks_that_are_given():
    """Levels may differ in size."""
    assert codebook_sizes(recipe("model.codebook_sizes=[7, 5, 3]"), 10_000) == [7, 5, 3]


def test_codebooks_of_no_level():
    """One sentence."""
    with pytest.raises(ConfigError, match="levels is 0; a number from 1"):
        codebook_sizes(recipe("levels=0"), 100)


@pytest.mark.parametrize("documents", [40, 61, 200, 999, 5000, 57_638])
def test_never_more_documents_ranked_than_allowed(documents):
    """Even if the fullest leaves are those visited; at least one is."""
    wish = recipe("search.share=0.09", "search.max_documents=300")
    sizes = codebook_sizes(wish, documents)
    beams = search_beams(wish, sizes, documents)
    fullest = documents
    for size in sizes:  # capacity is exact at every node
        fullest = -(-fullest // size)
    assert beams == 1 or beams * fullest <= min(0.09 * documents, 300)
    assert (beams + 1) * fullest > min(0.09 * documents, 300) or beams == np.prod(sizes)


def test_beams_that_are_wished_for(tiny):
    """`search.beams` goes before the bound, and before a recipe's own number."""
    assert search_beams(recipe("search.beams=7"), [4, 4], 60) == 7
    start = build(recipe("search.beams=7", "model.search_beams=3"), tiny, seed=0)
    assert start.model.config.search_beams == 7
    assert search_beams(recipe("model.search_beams=3"), [4, 4], 60) == 3


@pytest.mark.parametrize("wish", ["search.beams=2", "model.search_beams=2"])
def test_a_small_corpus_is_searched_whole_unless_beams_are_wished_for(tiny, wish):
    """Every leaf by default; a number that a user names holds of a small corpus too."""
    start = build(recipe(wish), tiny, seed=0)
    assert start.model.config.default_beams(60) == 2
    start.model.config.exhaustive_up_to = build(
        recipe(), tiny, seed=0
    ).model.config.exhaustive_up_to
    start.model.config.num_nodes = [4, 16]
    assert start.model.config.default_beams(60) == 16


def test_beams_of_a_recipe_file_are_a_wish(tmp_path):
    """Those of shipped recipes are meant for large corpora, those of a user's own file as said."""
    own = tmp_path / "own.yaml"
    own.write_text("description: own\nbase: fixed\nset: {search.beams: 2}\n")
    assert load_recipe(str(own)).model["exhaustive_up_to"] == 0
    assert "exhaustive_up_to" not in load_recipe("tiger", task="sequential").model


# ---- queries ------------------------------------------------------------------------------


def test_own_and_made_queries_together(tiny):
    """The data's own queries, as often as wished, and those made of its documents."""
    wish = recipe("queries.pseudo=2", "queries.repeat_train=3")
    train, dev = training_queries(wish, tiny, 0)
    assert train.ids[:40] == tiny.splits["train"].ids == train.ids[80:120]
    assert 60 < len(train) - 120 <= 120
    assert dev is tiny.splits["dev"]


def test_a_dev_split_from_held_out_documents(tiny):
    """Without one, all made queries of some documents stand aside; no document is in both."""
    data = RetrievalData("t", "0", tiny.documents, {})
    wish = recipe("queries.pseudo=3", "queries.dev_share=0.2")
    train, dev = training_queries(wish, data, 1)
    rows = [{next(iter(gains)) for gains in queries.relevant} for queries in (train, dev)]
    assert not rows[0] & rows[1] and len(rows[0] | rows[1]) == 60
    assert 4 <= len(rows[1]) <= 20
    assert (
        training_queries(wish, data, 1)[1].ids == dev.ids != training_queries(wish, data, 2)[1].ids
    )


def test_nothing_to_train_on(tiny):
    """No queries and none wished."""
    data = RetrievalData("bare", "0", tiny.documents, {})
    with pytest.raises(DataError, match="bare has no training queries and the recipe makes none"):
        build(recipe("queries.pseudo=0"), data, seed=0)


def test_dev_is_cut_for_evaluations(tiny):
    """At most `dev_limit` queries are searched during training, the same each time."""
    start = build(recipe("queries.dev_limit=7"), tiny, seed=0)
    assert len(start.dev) == 7 and len(start.data.dev) == 7
    assert start.dev.ids == build(recipe("queries.dev_limit=7"), tiny, seed=0).dev.ids


# ---- data and recipe ----------------------------------------------------------------------


def test_a_text_recipe_on_histories(sequence_data):
    """One sentence names the recipes that fit; the items alone can be searched by text."""
    for pseudo in (0, 2):
        with pytest.raises(ConfigError, match=r"reads query texts; shop has histories.*uri-seq"):
            build(recipe(f"queries.pseudo={pseudo}"), sequence_data, seed=0)
    start = build(recipe("queries.use_train=false"), sequence_data, seed=0)
    assert start.dev.texts is not None and start.data.train.tokens is not None


@pytest.mark.parametrize("name", ["uri-sequential", "uri-general"])
def test_a_history_recipe_on_texts(tiny, name):
    """And the other way round."""
    with pytest.raises(ConfigError, match=r"reads histories; tiny has query texts. Use uri"):
        build(load_recipe(name), tiny, seed=0)


def test_two_documents_are_too_few(tiny):
    """There is nothing to decompose."""
    data = RetrievalData("pair", "0", tiny.documents.take([0, 1]), {})
    with pytest.raises(DataError, match="pair has 2 documents; 3 are needed"):
        build(recipe(), data, seed=0)


def test_three_documents_are_enough():
    """The smallest corpus builds."""
    documents = Documents(list("abc"), ["red fox", "blue whale", "green tree"], ["x"] * 3)
    train = Queries(["q"], [{0: 1.0}], ["fox"])
    start = build(recipe(), RetrievalData("three", "0", documents, {"train": train}), seed=0)
    assert start.model.config.vector_dim <= 2


def test_settings_that_contradict_each_other(tiny):
    """What the configuration refuses is a ConfigError."""
    with pytest.raises(ConfigError, match="multiple of decoder_heads"):
        build(recipe("model.decoder_dim=15"), tiny, seed=0)


def test_the_same_seed_builds_the_same(tiny):
    """Weights and pairs."""
    first, second = (build(recipe(), tiny, seed=4) for _ in range(2))
    state = second.model.state_dict()
    assert all(torch.equal(v, state[n]) for n, v in first.model.state_dict().items())
    assert first.data.pair_row.tolist() == second.data.pair_row.tolist()


def test_items_have_features_of_their_text(sequence_data):
    """Unit-variance vectors of a bag of subwords; ids beside them."""
    start = build(load_recipe("uri-sequential", ["items.feature_dim=16"]), sequence_data, seed=0)
    features = start.model.encoder.items.features
    assert features.shape == (200, 16)
    assert torch.allclose(features.norm(dim=1), torch.full((200,), 4.0), atol=1e-4)
    assert start.data.exclude_history and start.tokenizer is None


# ---- pretrained encoders ------------------------------------------------------------------


def text_recipe(folder, *settings: str):
    return load_recipe("uri", [f"encoder={folder}", *SMALL[1:], "queries.pseudo=1", *settings])


def test_a_sentence_transformers_folder_says_how(tiny, bert_folder):
    """Pooling, prompts and length are read from it."""
    config = build(text_recipe(bert_folder), tiny, seed=0).model.config
    assert config.query_encoder["pooling"] == "cls" and config.vector_dim == 32
    assert (config.query_prompt, config.document_prompt) == ("query: ", "passage: ")
    assert config.max_document_length == config.max_query_length == 48  # the tokenizer's


def test_a_recipe_goes_before_the_folder(tiny, bert_folder):
    """Pooling and prompts of the recipe win, the empty prompt too."""
    settings = ["text.pooling=mean", "text.query_prompt=''", "text.document_prompt='d: '"]
    config = build(text_recipe(bert_folder, *settings), tiny, seed=0).model.config
    assert config.query_encoder["pooling"] == "mean"
    assert (config.query_prompt, config.document_prompt) == ("", "d: ")


def test_a_plain_folder_pools_the_mean(tmp_path, encoder_at):
    """transformers alone says nothing of pooling."""
    backbone = load_backbone(str(encoder_at(tmp_path / "e")), TextSettings())
    assert backbone.settings["pooling"] == "mean" and backbone.query_prompt == ""


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean", "word_embedding_dimension": 32}, "mean"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
    ],
)
def test_both_spellings_of_pooling(tmp_path, bert_folder, pooling_at, modes, pooling):
    """Older folders have one switch a mode, newer ones a name."""
    folder = shutil.copytree(bert_folder, tmp_path / "e")
    backbone = load_backbone(str(pooling_at(folder, **modes)), TextSettings())
    assert backbone.settings["pooling"] == pooling


def test_a_pooling_that_the_model_lacks(tmp_path, bert_folder, pooling_at):
    """One sentence, unless the recipe chooses."""
    folder = shutil.copytree(bert_folder, tmp_path / "e")
    pooling_at(folder, pooling_mode_max_tokens=True)
    with pytest.raises(ConfigError, match="pools with pooling_mode_max_tokens"):
        load_backbone(str(folder), TextSettings())
    assert load_backbone(str(folder), TextSettings(pooling="cls")).settings["pooling"] == "cls"


def test_the_vectors_are_the_encoder_s_own(tiny, bert_folder):
    """Prompt, tokens, first token, unit length: as by hand with transformers."""
    start = build(text_recipe(bert_folder, "model.query_adapter=false"), tiny, seed=0)
    found = pooled_vectors(start.model, start.data.items)
    tokenizer, model = (a.from_pretrained(bert_folder) for a in (AutoTokenizer, AutoModel))
    for row in (0, 17, 59):
        text = "passage: " + tiny.documents.full_text(row)
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=48)
        with torch.no_grad():
            vector = model(**inputs).last_hidden_state[0, 0]
        assert torch.allclose(found[row], vector / vector.norm(), atol=1e-5)


def test_a_frozen_encoder_leaves_no_stage_empty(tiny, bert_folder):
    """`encoder` is taken from every stage; a stage of nothing else is left out."""
    recipe = text_recipe(bert_folder, "stages.encoder.train=[encoder]")
    build(recipe, tiny, seed=0)
    assert all(stage.train and "encoder" not in stage.train for stage in recipe.stages)
    assert "encoder" not in [stage.name for stage in recipe.stages]


def test_half_precision_weights_are_read_in_full(tmp_path, tiny, bert_folder):
    """A bfloat16 folder must not mix with the decoder's float32."""
    folder = shutil.copytree(bert_folder, tmp_path / "half")
    AutoModel.from_pretrained(folder).to(torch.bfloat16).save_pretrained(folder)
    start = build(text_recipe(folder), tiny, seed=0)
    assert {p.dtype for p in start.model.parameters()} == {torch.float32}


def test_an_encoder_that_is_not_there(tmp_path):
    """One sentence with its name."""
    with pytest.raises(
        ConfigError, match=r"No text encoder could be loaded from .*nowhere"
    ) as caught:
        load_backbone(str(tmp_path / "nowhere"), TextSettings())
    assert "\n" not in str(caught.value)


def test_a_damaged_encoder(tmp_path, bert_folder):
    """Truncated weights."""
    folder = shutil.copytree(bert_folder, tmp_path / "e")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="No text encoder could be loaded from"):
        load_backbone(str(folder), TextSettings())


def test_an_encoder_with_code_of_its_own(tmp_path, bert_folder):
    """Refused at once, without a question at the terminal."""
    folder = shutil.copytree(bert_folder, tmp_path / "e")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mystery", "auto_map": {"AutoConfig": "m.C", "AutoModel": "m.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="needs code of its own") as caught:
        load_backbone(str(folder), TextSettings())
    assert "\n" not in str(caught.value)


def test_an_encoder_decoder(tmp_path):
    """T5 is no text encoder here; that is said before its weights are read."""
    config = {"model_type": "t5", "is_encoder_decoder": True, "d_model": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="encoder-decoder model; a text encoder was expected"):
        load_backbone(str(tmp_path), TextSettings())


# ---- LoRA ---------------------------------------------------------------------------------


def test_lora_alone_learns_in_the_encoder(tiny, bert_folder):
    """Its matrices and what the stage trains besides; merged, the vectors stay."""
    from hf_genret.training.freezing import freeze

    start = build(text_recipe(bert_folder, "lora.r=2", "lora.dropout=0.0"), tiny, seed=0)
    assert any("encoder" in stage.train for stage in load_recipe("uri").stages)
    freeze(start.model, ["encoder", "ranker"])
    learning = {name for name, p in start.model.named_parameters() if p.requires_grad}
    assert any("lora_" in name for name in learning)
    assert all("lora_" in name or name.startswith("ranker.") for name in learning)
    with torch.no_grad():
        for name, parameter in start.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    before = pooled_vectors(start.model, start.data.items)
    merge_lora(start.model)
    assert not any("lora" in name for name in start.model.state_dict())
    assert torch.allclose(pooled_vectors(start.model, start.data.items), before, atol=1e-5)


def test_lora_where_there_is_nothing_to_adapt(tiny, bert_folder):
    """Targets that the encoder lacks are one sentence."""
    with pytest.raises(ConfigError, match="LoRA cannot be put on this encoder"):
        build(text_recipe(bert_folder, "lora.r=2", "lora.targets=[nothing]"), tiny, seed=0)

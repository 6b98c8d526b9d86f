"""What an encoder's folder asks for is applied, or refused by name before anything is trained."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, GPT2Config, GPT2Model

from hf_genret.adapters import Base, merge_lora
from hf_genret.data import Documents, RetrievalData
from hf_genret.encoding import TokenTable, pooled_vectors
from hf_genret.errors import ConfigError, DataWarning
from hf_genret.modeling import GenRetModel
from hf_genret.training.build import build
from hf_genret.training.recipes import TextSettings, load_recipe
from hf_genret.training.text_encoder import load_backbone

LIBRARY = "sentence_transformers.models."
WORDS = "bado kilban soda"


@pytest.fixture
def folder(tmp_path, encoder_at):
    """A BERT of 32 dimensions that nothing is said of."""
    return encoder_at(tmp_path / "encoder")


def write(path, content):
    """A JSON file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def list_modules(folder, *modules, library=LIBRARY):
    """modules.json of the named kinds, each in the place that the library gives it."""
    entries = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": library + kind}
        for n, kind in enumerate(modules)
    ]
    write(folder / "modules.json", entries)


def add_dense(folder, place, taken, size, activation="torch.nn.modules.activation.Tanh", **facts):
    """A dense module with random weights."""
    facts = {"in_features": taken, "out_features": size, "bias": True, **facts}
    write(folder / place / "config.json", {**facts, "activation_function": activation})
    weights = {"linear.weight": torch.randn(size, taken), "linear.bias": torch.randn(size)}
    save_file(weights, folder / place / "model.safetensors")
    return weights


def recipe(folder, *settings):
    """Of a few levels, on an encoder."""
    return load_recipe("uri", [f"encoder={folder}", "queries.pseudo=1", *settings])


def load(folder, **settings):
    """The encoder as training would have it."""
    return load_backbone(str(folder), TextSettings(**settings))


# ---- modules --------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [["Normalize"], []])
@pytest.mark.parametrize("memory", ["pooled", "tokens"])
def test_dense_modules_are_applied(tmp_path, tiny, folder, pooling_at, normalize, memory):
    """normalize(tanh(W mean + b)) by hand, when built and when its checkpoint is loaded."""
    pooling_at(folder, pooling_mode_mean_tokens=True)
    weights = add_dense(folder, "2_Dense", 32, 8)
    list_modules(folder, "Transformer", "Pooling", "Dense", *normalize)
    settings = [f"text.memory={memory}", "model.query_adapter=false"]
    start = build(recipe(folder, *settings), tiny, seed=0)
    assert start.model.config.vector_dim == 8
    start.model.set_index(
        torch.zeros(60, start.model.config.num_levels), vectors=torch.zeros(60, 8)
    )
    start.model.save_pretrained(tmp_path / "out")
    loaded = AutoModel.from_pretrained(tmp_path / "out").eval()
    tokenizer, model = (auto.from_pretrained(folder) for auto in (AutoTokenizer, AutoModel))
    for row in (0, 17):
        text = "passage: " + tiny.documents.full_text(row)
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=48)
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(0)
            wanted = torch.tanh(weights["linear.weight"] @ mean + weights["linear.bias"])
            wanted = wanted / wanted.norm()
            found = loaded.encode_items(input_ids=inputs["input_ids"])
            built = start.model.eval().encode_items(input_ids=inputs["input_ids"])
        torch.testing.assert_close(found.pooler_output[0], wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(built.pooler_output[0], wanted, atol=1e-5, rtol=0)
        assert found.last_hidden_state.shape[-1] == 8


def test_dense_modules_follow_one_another(folder):
    """Two of them, the second without bias and without an activation."""
    add_dense(folder, "2_Dense", 32, 16)
    add_dense(folder, "3_Dense", 16, 8, "torch.nn.modules.linear.Identity", bias=False)
    weights = load_file(folder / "3_Dense" / "model.safetensors")
    save_file({"linear.weight": weights["linear.weight"]}, folder / "3_Dense" / "model.safetensors")
    list_modules(folder, "Transformer", "Pooling", "Dense", "Dense", "Normalize")
    backbone = load(folder)
    assert backbone.dim == 8
    assert backbone.settings["dense"] == [
        {"size": 16, "bias": True, "activation": "Tanh"},
        {"size": 8, "bias": False, "activation": "Identity"},
    ]


@pytest.mark.parametrize(
    "library", [LIBRARY, "sentence_transformers.sentence_transformer.modules.some."]
)
def test_a_usual_folder_is_as_before(folder, library):
    """Transformer, Pooling and Normalize, wherever the library keeps its classes."""
    list_modules(folder, "Transformer", "Pooling", "Normalize", library=library)
    backbone = load(folder)
    assert backbone.dim == 32 and "dense" not in backbone.settings


@pytest.mark.parametrize(
    "kind",
    ["LSTM", "CNN", "WeightedLayerPooling", "StaticEmbedding", "Router", "Asym", "Dropout", "BoW"],
)
def test_another_module_is_refused(folder, kind):
    """By its name and class."""
    list_modules(folder, "Transformer", "Pooling", kind)
    with pytest.raises(ConfigError, match=rf"2_{kind} \({LIBRARY}{kind}\) cannot be applied"):
        load(folder)


def test_a_module_of_another_library_is_refused(folder):
    """The same last name does not make it the same."""
    list_modules(folder, "Transformer", "Pooling", library="own_code.")
    with pytest.raises(ConfigError, match=r"own_code.Transformer\) cannot be applied"):
        load(folder)


@pytest.mark.parametrize(
    "modules",
    [
        ["Transformer", "Pooling", "Normalize", "Dense"],
        ["Transformer", "Transformer", "Pooling"],
        ["Pooling"],
        ["Transformer", "Dense", "Pooling"],
    ],
    ids="-".join,
)
def test_modules_in_another_order_are_refused(folder, modules):
    """A map of unit vectors is not the map that the model would make."""
    list_modules(folder, *modules)
    with pytest.raises(ConfigError, match="cannot be applied in this order"):
        load(folder)


def test_a_dense_module_that_cannot_be_read(folder):
    """Its activation, its input, its widths and its weights, one sentence each."""
    list_modules(folder, "Transformer", "Pooling", "Dense")
    add_dense(folder, "2_Dense", 32, 8, "torch.nn.modules.activation.Softplus")
    with pytest.raises(ConfigError, match=r"activation '.*Softplus'; known: Identity, Tanh"):
        load(folder)
    add_dense(folder, "2_Dense", 32, 8, module_input_name="token_embeddings")
    with pytest.raises(ConfigError, match="module_input_name='token_embeddings'"):
        load(folder)
    add_dense(folder, "2_Dense", 16, 8)
    with pytest.raises(ConfigError, match="takes vectors of width 16, those before it have 32"):
        load(folder)
    add_dense(folder, "2_Dense", 32, 8, out_features=7)
    with pytest.raises(ConfigError, match="2_Dense cannot be read"):
        load(folder)
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"expected 2_Dense/model\.safetensors"):
        load(folder)


# ---- where the transformer lies -------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
def test_a_transformer_in_a_subfolder(folder, pooling_at, listed):
    """As early releases laid it out: weights, tokenizer and length are read there."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        shutil.move(file, inner / file.name)
    write(inner / "sentence_bert_config.json", {"max_seq_length": 17, "do_lower_case": False})
    pooling_at(folder, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    if listed:
        list_modules(folder, "Transformer", "Pooling")
        entries = json.loads((folder / "modules.json").read_text())
        entries[0]["path"] = "0_Transformer"
        write(folder / "modules.json", entries)
    backbone = load(folder)
    assert (backbone.settings["pooling"], backbone.max_length) == ("cls", 17)
    wanted = AutoModel.from_pretrained(inner).state_dict()
    found = Base("encoder", str(folder)).tensors()  # where an adapter looks for its base
    for name, value in wanted.items():
        assert torch.equal(backbone.model.state_dict()[name], value)
        assert torch.equal(found["encoder.query.backbone." + name], value)


# ---- texts ----------------------------------------------------------------------------------


def test_lower_case_is_applied(tmp_path, folder):
    """To texts that the tokenizer would tell apart; also when it is loaded again."""
    tokenizer = AutoTokenizer.from_pretrained(folder, do_lower_case=False)
    tokenizer.save_pretrained(folder)
    lower, upper = ([text] for text in (WORDS, WORDS.upper()))
    plain = load(folder).tokenizer
    assert plain(lower)["input_ids"] != plain(upper)["input_ids"]
    write(folder / "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": True})
    backbone = load(folder)
    backbone.tokenizer.save_pretrained(tmp_path / "again")
    for one in (backbone.tokenizer, AutoTokenizer.from_pretrained(tmp_path / "again")):
        assert one(upper)["input_ids"] == plain(lower)["input_ids"]
        assert one.pad_token_id == plain.pad_token_id
        assert TokenTable.from_texts(one, upper, 48).ids.tolist() == plain(lower)["input_ids"][0]
    assert backbone.max_length == 40


@pytest.mark.parametrize(
    ("said", "query", "document"),
    [
        ({"prompts": {"query": "q: ", "passage": "p: "}}, "q: ", "p: "),
        ({"prompts": {"query": "q: ", "corpus": "c: "}}, "q: ", "c: "),
        ({"prompts": {"any": "a: "}, "default_prompt_name": "any"}, "a: ", "a: "),
        ({"prompts": {"any": "a: ", "query": ""}, "default_prompt_name": "any"}, "", "a: "),
        ({"prompts": {"any": "a: "}}, "", ""),
    ],
)
def test_prompts(folder, said, query, document):
    """By name, else the default one, else none."""
    write(folder / "config_sentence_transformers.json", said)
    backbone = load(folder)
    assert (backbone.query_prompt, backbone.document_prompt) == (query, document)


def test_a_default_prompt_that_is_not_there(folder):
    """Is not taken for none."""
    write(folder / "config_sentence_transformers.json", {"default_prompt_name": "query"})
    with pytest.raises(ConfigError, match="default_prompt_name is 'query', which is no prompt"):
        load(folder)


def test_prompts_that_are_not_pooled(folder, pooling_at):
    """Refused, unless the recipe says its own; without a prompt there is nothing to leave out."""
    pooling_at(folder, pooling_mode_mean_tokens=True, include_prompt=False)
    with pytest.raises(ConfigError, match=r"leaves its prompts out of pooling \(include_prompt\)"):
        load(folder)
    assert load(folder, query_prompt="", document_prompt="d: ").document_prompt == "d: "
    write(folder / "config_sentence_transformers.json", {"prompts": {}})
    assert load(folder).query_prompt == ""


def test_a_pooling_of_nothing(folder, pooling_at):
    """Every switch is off."""
    pooling_at(folder, pooling_mode_cls_token=False, pooling_mode_mean_tokens=False)
    with pytest.raises(ConfigError, match="pools with nothing"):
        load(folder)


@pytest.mark.parametrize(
    ("similarity", "modules", "setting", "said"),
    [
        ("dot", [], "model.normalize=true", True),
        ("dot", [], "model.normalize=false", False),
        ("dot", ["Normalize"], "model.normalize=true", False),
        ("cosine", [], "model.normalize=true", False),
    ],
)
def test_vectors_whose_length_counts(tiny, folder, similarity, modules, setting, said):
    """It is said that they get unit length here, where that changes their order."""
    list_modules(folder, "Transformer", "Pooling", *modules)
    write(folder / "config_sentence_transformers.json", {"similarity_fn_name": similarity})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(recipe(folder, setting), tiny, seed=0)
    texts = [str(one.message) for one in caught if issubclass(one.category, DataWarning)]
    assert len(texts) == said and all("compares vectors by dot" in text for text in texts)


def test_settings_that_are_no_json(folder):
    """Named with the file."""
    (folder / "modules.json").write_text("[{")
    with pytest.raises(ConfigError, match=r"modules.json is not JSON"):
        load(folder)


# ---- tokenizers -----------------------------------------------------------------------------


def test_an_encoder_without_a_tokenizer(tiny, folder):
    """Refused before training; transformers would make one that knows no word."""
    for file in folder.glob("*tok*"):
        file.unlink()
    (folder / "vocab.txt").unlink()
    with pytest.raises(
        ConfigError, match=r"expected the encoder's tokenizer .* without words"
    ) as e:
        build(recipe(folder), tiny, seed=0)
    assert "\n" not in str(e.value)


def test_a_damaged_tokenizer(folder):
    """The tokenizers library raises bare exceptions."""
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="No tokenizer could be loaded from") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_encoder(folder):
    """Which knows more words than there are vectors."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["others"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConfigError, match="do not belong together"):
        load(folder)


def test_a_tokenizer_that_cannot_read_the_corpus(tiny, folder):
    """Most of the corpus' tokens are the unknown one."""
    texts = [f"東京 大阪 {number}" for number in range(60)]
    documents = Documents([f"d{n}" for n in range(60)], [""] * 60, texts)
    with pytest.warns(DataWarning, match=r"\d+% of this corpus is unknown to the tokenizer"):
        build(recipe(folder), RetrievalData("far", "0" * 16, documents, tiny.splits), seed=0)


# ---- weights --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "setting"),
    [
        ("dtype", "float16", "text.freeze=false"),
        ("dtype", "bfloat16", "text.memory=tokens"),
        ("torch_dtype", "float16", "lora.r=2"),
    ],
)
def test_no_type_is_kept_of_an_encoder_in_half(tmp_path, tiny, folder, name, kind, setting):
    """Its checkpoint holds one type alone and can be searched."""
    AutoModel.from_pretrained(folder).to(getattr(torch, kind)).save_pretrained(folder)
    facts = json.loads((folder / "config.json").read_text())
    assert facts.pop("dtype") == kind
    write(folder / "config.json", {**facts, name: kind})
    start = build(recipe(folder, setting), tiny, seed=0)
    assert "dtype" not in json.dumps(start.model.config.query_encoder)
    merge_lora(start.model)
    vectors = pooled_vectors(start.model, start.data.items)
    start.model.set_index(torch.arange(60).view(-1, 1).expand(-1, 2) % 2, vectors=vectors)
    start.model.save_pretrained(tmp_path / "out")
    loaded = GenRetModel.from_pretrained(tmp_path / "out").eval()
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    query = start.tokenizer("bado", return_tensors="pt")["input_ids"]
    assert loaded.search(input_ids=query, k=3).scores.isfinite().all()


def test_quantized_weights_are_refused(folder):
    """They need another library, now and wherever the checkpoint goes."""
    facts = json.loads((folder / "config.json").read_text())
    facts["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    write(folder / "config.json", facts)
    with pytest.raises(ConfigError, match="is quantized"):
        load(folder)


def test_lora_on_maps_of_another_kind(tiny, folder):
    """GPT-2's linear maps are transposed; merged, the vectors stay, and they did change."""
    words = len(AutoTokenizer.from_pretrained(folder))
    small = GPT2Config(vocab_size=words, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    GPT2Model(small).save_pretrained(folder)
    start = build(recipe(folder, "lora.r=2", "lora.dropout=0.0"), tiny, seed=0)
    adapted = [name for name, _ in start.model.named_parameters() if "lora_B" in name]
    assert len(adapted) == 1 and ".attn.c_attn." in adapted[0]
    fresh = pooled_vectors(start.model, start.data.items)
    with torch.no_grad():
        start.model.get_parameter(adapted[0]).normal_()
    before = pooled_vectors(start.model, start.data.items)
    merge_lora(start.model)
    after = pooled_vectors(start.model, start.data.items)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
    assert not torch.allclose(before, fresh, atol=1e-2)

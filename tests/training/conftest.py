"""Small corpora with structure, and models and trainers on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_genret.data import Documents, Queries, RetrievalData, load_data
from hf_genret.encoding import ItemSource, QuerySource, pooled_vectors
from hf_genret.modeling import GenRetConfig, GenRetModel
from hf_genret.training import GenRetTrainer, GenRetTrainingArguments
from hf_genret.training.bag import bag_start, train_tokenizer
from hf_genret.training.batches import TrainingData
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.workshop import Workshop

_SYLLABLES = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "an", "il")]


def _word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(_SYLLABLES, 3))


def corpus(size: int, topics: int = 8) -> tuple[Documents, list[list[str]]]:
    """Documents of a few topics, each with words of its own; and each document's own words."""
    rng = np.random.default_rng(7)
    themes = [[_word(rng) for _ in range(12)] for _ in range(topics)]
    titles, texts, own = [], [], []
    for row in range(size):
        words = [_word(rng) for _ in range(5)]
        theme = rng.choice(themes[row % topics], 8, replace=False).tolist()
        titles.append(" ".join([*theme[:1], *words[:2]]))
        texts.append(" ".join([*words, *theme]) + ". " + " ".join(rng.permutation(words)) + ".")
        own.append(words)
    return Documents([f"d{row}" for row in range(size)], titles, texts), own


def text_data(size: int = 60, queries: int = 40) -> RetrievalData:
    """A corpus with train, dev and test queries of three of a document's own words."""
    documents, own = corpus(size)
    rng = np.random.default_rng(11)
    splits = {}
    for name in ("train", "dev", "test"):
        rows = rng.integers(size, size=queries)
        splits[name] = Queries(
            ids=[f"{name}{n}" for n in range(queries)],
            relevant=[{int(row): 1.0} for row in rows],
            texts=[" ".join(rng.choice(own[row], 3, replace=False)) for row in rows],
        )
    return RetrievalData("tiny", "0" * 16, documents, splits)


def write_text(folder: Path, data: RetrievalData) -> Path:
    """The data as a BEIR folder."""
    (folder / "qrels").mkdir(parents=True)
    documents = data.documents
    rows = zip(documents.ids, documents.titles, documents.texts, strict=True)
    lines = [json.dumps({"_id": i, "title": title, "text": text}) for i, title, text in rows]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    texts = []
    for name, queries in data.splits.items():
        judged = ["query-id\tcorpus-id\tscore"]
        for i, text, gains in zip(queries.ids, queries.texts, queries.relevant, strict=True):
            texts.append(json.dumps({"_id": i, "text": text}))
            judged += [f"{i}\t{documents.ids[row]}\t1" for row in gains]
        (folder / "qrels" / f"{name}.tsv").write_text("\n".join(judged) + "\n")
    (folder / "queries.jsonl").write_text("\n".join(texts) + "\n")
    return folder


def write_sequences(folder: Path, items: int = 200, users: int = 300) -> Path:
    """Items of some groups and users who stay in one group: what comes next can be guessed."""
    rng = np.random.default_rng(13)
    documents, _ = corpus(items)
    folder.mkdir(parents=True)
    rows = zip(documents.ids, documents.titles, strict=True)
    lines = [json.dumps({"item_id": i, "title": title}) for i, title in rows]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    table = ["user_id\titem_ids"]
    for user in range(users):
        group = int(rng.integers(8))
        start = int(rng.integers(items // 8))
        steps = start + np.arange(int(rng.integers(5, 9)))
        chosen = (steps % (items // 8)) * 8 + group
        table.append(f"u{user}\t" + " ".join(f"d{row}" for row in chosen))
    (folder / "sequences.tsv").write_text("\n".join(table) + "\n")
    return folder


def write_encoder(folder: Path, *, settings: dict[str, Any] | None = None) -> Path:
    """A one-layer BERT with random weights, as sentence-transformers lays a folder out."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({s[:2] for s in _SYLLABLES})]
    words += [f"##{s}" for s in sorted(set(_SYLLABLES))] + sorted({s for s in _SYLLABLES if s[2:]})
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=48)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(9)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        **(settings or {}),
    )
    BertModel(config).save_pretrained(folder)
    return folder


def write_pooling(folder: Path, **modes: Any) -> Path:
    """The files that say how a sentence-transformers model is used."""
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    prompts = {"prompts": {"query": "query: ", "document": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return folder


STAGES: list[dict[str, Any]] = [
    {
        "name": "encoder",
        "objective": "ranker",
        "train": ["encoder", "adapter", "ranker"],
        "epochs": 1.5,
        "batch_size": 16,
        "learning_rate": 5e-3,
        "keep_best": "ndcg@10",
        "evaluations": 3,
        "options": {"shared": 8},
    },
    {
        "name": "level-1",
        "objective": "uri",
        "level": 1,
        "train": ["decoder", "heads"],
        "epochs": 1.5,
        "batch_size": 16,
        "before": {"ids": "kmeans"},
        "after": {"assign": "greedy", "reassign": {"method": "exact", "levels": [2]}},
    },
    {
        "name": "final",
        "objective": "cross_entropy",
        "train": ["decoder", "heads"],
        "epochs": 6,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "keep_best": "recall",
        "evaluations": 9,
        "patience": 2,
    },
]


def tiny_model(data: RetrievalData, **changes: Any) -> tuple[GenRetModel, Any]:
    """A bag encoder of 16 dimensions on the corpus, decoder and heads fresh."""
    texts = data.documents.full_texts()
    tokenizer = train_tokenizer(texts, vocab_size=300)
    ids = tokenizer(texts)["input_ids"]
    start = bag_start(ids, vocab_size=len(tokenizer), dim=16)
    settings: dict[str, Any] = {
        "query_encoder": {"type": "bag", "vocab_size": len(tokenizer), "dim": 16},
        "vector_dim": 16,
        "query_adapter": True,
        "codebook_sizes": [4, 3],
        "decoder_dim": 16,
        "decoder_heads": 2,
        "decoder_layers": 1,
        "search_beams": 3,
        "exhaustive_up_to": 0,  # beams are what these tests search with
    }
    torch.manual_seed(0)
    model = GenRetModel(GenRetConfig(**{**settings, **changes}))
    with torch.no_grad():
        model.encoder.query.embedding.weight.copy_(torch.from_numpy(start.embedding))
        model.encoder.query.idf.copy_(torch.from_numpy(start.idf))
    return model, tokenizer


def training_data(data: RetrievalData, model: GenRetModel, tokenizer: Any) -> TrainingData:
    """Pairs of the training queries, and the dev queries."""
    train = data.splits["train"]
    query, row = train.pairs()
    dev = data.splits.get("dev")
    return TrainingData(
        ItemSource(model, data.documents, tokenizer),
        QuerySource(model, train, tokenizer),
        None if dev is None else QuerySource(model, dev, tokenizer),
        query,
        row,
    )


def make_trainer(
    folder: Path,
    stages: list[dict[str, Any]] | None = None,
    data: RetrievalData | None = None,
    *,
    save_steps: int = 500,
    model: dict[str, Any] | None = None,
    **extra: Any,
) -> GenRetTrainer:
    """A trainer as a fresh process would build it; the same arguments give the same one."""
    data = text_data() if data is None else data
    fresh, tokenizer = tiny_model(data, **(model or {}))
    args = GenRetTrainingArguments(
        output_dir=str(folder),
        seed=3,
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=1,
        logging_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    return GenRetTrainer(
        fresh,
        args,
        data=training_data(data, fresh, tokenizer),
        stages=stages_from(STAGES if stages is None else stages),
        processing_class=tokenizer,
        **extra,
    )


def weights_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, copied."""
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture
def tiny() -> RetrievalData:
    """60 documents, 40 queries a split."""
    return text_data()


@pytest.fixture
def make_data() -> Callable[..., RetrievalData]:
    """`text_data`."""
    return text_data


@pytest.fixture
def trainer_at() -> Callable[..., GenRetTrainer]:
    """`make_trainer`."""
    return make_trainer


@pytest.fixture
def model_on() -> Callable[..., tuple[GenRetModel, Any]]:
    """`tiny_model`."""
    return tiny_model


@pytest.fixture
def pairs_of() -> Callable[..., TrainingData]:
    """`training_data`."""
    return training_data


@pytest.fixture
def weights() -> Callable[[torch.nn.Module], dict[str, Tensor]]:
    """`weights_of`."""
    return weights_of


@pytest.fixture
def stage_settings() -> list[dict[str, Any]]:
    """A curriculum of three stages; copy before changing."""
    return json.loads(json.dumps(STAGES))


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder of 200 documents."""
    return write_text(tmp_path_factory.mktemp("data") / "texts", text_data(200, 60))


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder of 80 documents."""
    return write_text(tmp_path_factory.mktemp("data") / "texts", text_data(80, 30))


@pytest.fixture(scope="session")
def sequence_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 items and the histories of 300 users."""
    return write_sequences(tmp_path_factory.mktemp("data") / "shop")


@pytest.fixture(scope="session")
def sequence_data(sequence_folder: Path) -> RetrievalData:
    """The same, loaded."""
    return load_data(sequence_folder)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that pools its first token and has prompts; not to be changed."""
    folder = write_encoder(tmp_path_factory.mktemp("encoder") / "tiny-bert")
    return write_pooling(folder, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)


@pytest.fixture
def encoder_at() -> Callable[..., Path]:
    """`write_encoder`."""
    return write_encoder


@pytest.fixture
def pooling_at() -> Callable[..., Path]:
    """`write_pooling`."""
    return write_pooling


@pytest.fixture
def shop_with(tiny, model_on, pairs_of):
    """A workshop on the tiny corpus, at all levels of an untrained model or at one of them."""

    def make(level: int = 0, **settings: Any) -> Workshop:
        model, tokenizer = model_on(tiny, **settings)
        state = RunState.fresh(60, model.config.num_levels)
        entry = {"name": "s", "objective": "uri", "train": ["heads"], "level": level}
        data = pairs_of(tiny, model, tokenizer)
        return Workshop(model, data, state, stages_from([entry])[0], seed=0)

    return make


@pytest.fixture
def seen_by_queries(tiny):
    """The mean of each document's vector and those of its training queries, one after another."""

    def mean(shop: Workshop) -> np.ndarray:
        queries, relevant = (
            pooled_vectors(shop.model, shop.data.train),
            tiny.split("train").relevant,
        )
        rows = []
        for row, own in enumerate(shop.vectors):
            asking = [queries[n].numpy() for n, gains in enumerate(relevant) if row in gains]
            rows.append(np.mean([own, *asking], axis=0))
        return np.stack(rows)

    return mean

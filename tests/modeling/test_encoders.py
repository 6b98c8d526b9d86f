"""Encoders against formulas by hand; padding never changes a vector."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hf_genret.modeling.encoders_genret import (
    BagEncoder,
    ItemEncoder,
    ResidualAdapter,
    SequenceEncoder,
    TextEncoder,
    UserEncoder,
    build_encoder,
    concatenate,
    from_vectors,
)


@pytest.fixture(autouse=True)
def no_gradients():
    """Encoders are only read here."""
    with torch.no_grad():
        yield


def bag() -> BagEncoder:
    """A bag encoder with random inverse document frequencies."""
    encoder = BagEncoder(20, 8, average_length=5.0, k1=1.5, b=0.6)
    encoder.idf.copy_(torch.rand(20) * 3)
    return encoder


def test_the_bag_is_bm25s_saturation_times_idf():
    """The sum over distinct tokens, written out with a Counter and math."""
    encoder, texts = bag(), [[3, 4, 3, 3, 7], [9], [5, 5, 6, 6, 6, 1, 2, 5]]
    width = max(map(len, texts))
    ids = torch.tensor([[*t, *[0] * (width - len(t))] for t in texts])
    out = encoder(ids, (ids > 0).long())
    for row, tokens in enumerate(texts):
        wanted = [0.0] * 8
        for token, tf in Counter(tokens).items():
            norm = 1.5 * (1 - 0.6 + 0.6 * len(tokens) / 5.0)
            weight = tf * (1.5 + 1) / (tf + norm) * float(encoder.idf[token])
            for place, value in enumerate(encoder.embedding.weight[token].tolist()):
                wanted[place] += weight * value
        assert all(
            math.isclose(a, b, abs_tol=1e-4)
            for a, b in zip(out.pooler_output[row].tolist(), wanted, strict=True)
        )
    assert torch.equal(out.last_hidden_state[:, 0], out.pooler_output)


def test_a_bag_has_no_order():
    """Shuffled tokens give the same vector."""
    encoder, ids = bag(), torch.randint(1, 20, (4, 9))
    mask = torch.ones_like(ids)
    shuffled = ids[:, torch.randperm(9)]
    torch.testing.assert_close(encoder(ids, mask)[1], encoder(shuffled, mask)[1])


def test_an_empty_query_is_a_finite_vector(make_indexed, bert):
    """Nothing but padding: zeros and no NaN, up to the hits."""
    for encoder in ({}, {"query_encoder": {"type": "text", "backbone": bert}}):
        model = make_indexed(**encoder)
        ids = torch.zeros(2, 3, dtype=torch.long)
        out = model.search(input_ids=ids, attention_mask=ids)
        assert out.scores[out.rows >= 0].isfinite().all()
        assert (out.rows >= 0).any()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("memory", ["pooled", "tokens"])
def test_text_is_pooled_as_by_hand(bert, text, pooling, memory):
    """Mean over real tokens, the first, or the last real one, of transformers' own output."""
    encoder = TextEncoder(bert, pooling, memory).eval()
    settings = dict(bert)
    plain = AutoModel.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))
    plain.load_state_dict(encoder.backbone.state_dict())
    states = plain.eval()(**text).last_hidden_state
    out = encoder(**text)
    for row, length in enumerate(text["attention_mask"].sum(1).tolist()):
        real = states[row, :length]
        wanted = {"mean": real.mean(0), "cls": real[0], "last": real[-1]}[pooling]
        torch.testing.assert_close(out.pooler_output[row], wanted)
    if memory == "tokens":
        torch.testing.assert_close(out.last_hidden_state, states)
        assert torch.equal(out.attention_mask, text["attention_mask"])
    else:
        assert torch.equal(out.last_hidden_state[:, 0], out.pooler_output)


def test_dense_layers_follow_the_pooling(bert, text):
    """tanh(W2 gelu(W1 mean + b1)), written out; tokens go through the same maps."""
    dense = [
        {"size": 12, "bias": True, "activation": "GELU"},
        {"size": 8, "bias": False, "activation": "Tanh"},
    ]
    encoder = TextEncoder(bert, memory="tokens", dense=dense).eval()
    plain = TextEncoder(bert, memory="tokens").eval()
    plain.load_state_dict(encoder.state_dict(), strict=False)
    weights = encoder.state_dict()

    def mapped(vectors):
        hidden = vectors @ weights["dense.0.weight"].T + weights["dense.0.bias"]
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        return torch.tanh(hidden @ weights["dense.2.weight"].T)

    out, before = encoder(**text), plain(**text)
    assert encoder.dim == 8 and plain.dim == 16 and "dense.2.bias" not in weights
    torch.testing.assert_close(out.pooler_output, mapped(before.pooler_output))
    torch.testing.assert_close(out.last_hidden_state, mapped(before.last_hidden_state))


def test_token_types_reach_the_backbone(bert, text):
    """token_type_ids change what BERT reads."""
    encoder = TextEncoder(bert).eval()
    other = encoder(**text, token_type_ids=torch.ones_like(text["input_ids"]))
    assert not torch.allclose(other.pooler_output, encoder(**text).pooler_output)


ENCODERS = {
    "bag": {"type": "bag", "vocab_size": 60, "dim": 16},
    "mean": {"type": "text", "pooling": "mean"},
    "cls": {"type": "text", "pooling": "cls"},
    "last": {"type": "text", "pooling": "last"},
    "tokens": {"type": "text", "memory": "tokens"},
}


@pytest.mark.parametrize("name", ENCODERS)
def test_more_padding_changes_no_text(make_indexed, bert, text, name):
    """Pads on the right change neither vectors nor ids nor scores."""
    settings = dict(ENCODERS[name])
    if settings["type"] == "text":
        settings["backbone"] = bert
    model = make_indexed(query_encoder=settings)
    padded = {key: torch.nn.functional.pad(value, (0, 6)) for key, value in text.items()}
    ours, theirs = model.search(**text, k=5), model.search(**padded, k=5)
    assert torch.equal(ours.rows, theirs.rows)
    torch.testing.assert_close(ours.scores, theirs.scores)
    torch.testing.assert_close(ours.path_scores, theirs.path_scores, atol=1e-5, rtol=1e-5)


def sequence(**changes) -> SequenceEncoder:
    """A sequence encoder without dropout."""
    return SequenceEncoder(**({"dim": 16, "max_length": 6, "dropout": 0.0} | changes)).eval()


def test_a_history_is_read_from_old_to_new():
    """States of the older items do not know the newer ones."""
    encoder, items = sequence(), torch.randn(2, 5, 16)
    mask = torch.ones(2, 5, dtype=torch.bool)
    changed = items.clone()
    changed[:, 3:] = torch.randn(2, 2, 16)
    before, after = encoder(items, mask), encoder(changed, mask)
    torch.testing.assert_close(before.last_hidden_state[:, :3], after.last_hidden_state[:, :3])
    assert not torch.allclose(before.pooler_output, after.pooler_output)


def test_the_causal_mask_holds_in_training_too():
    """transformers of torch take another path in training: same result without dropout."""
    encoder, items = sequence(), torch.randn(3, 5, 16)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1] * 5, [0] * 5]).bool()
    fast = encoder(items, mask)
    with torch.enable_grad():
        slow = encoder.train()(items, mask)
    torch.testing.assert_close(fast.last_hidden_state, slow.last_hidden_state.detach())


def test_padding_on_the_left_changes_no_history():
    """Positions count from the newest item, so pads in front are nothing."""
    encoder, items = sequence(), torch.randn(2, 3, 16)
    mask = torch.ones(2, 3, dtype=torch.bool)
    padded = encoder(
        torch.nn.functional.pad(items, (0, 0, 2, 0), value=9.0),
        torch.nn.functional.pad(mask, (2, 0)),
    )
    alone = encoder(items, mask)
    torch.testing.assert_close(padded.pooler_output, alone.pooler_output)
    torch.testing.assert_close(padded.last_hidden_state[:, 2:], alone.last_hidden_state)
    assert padded.attention_mask.tolist() == [[0, 0, 1, 1, 1]] * 2


def test_only_the_newest_items_are_read():
    """What is older than max_length is cut."""
    encoder, items = sequence(max_length=4), torch.randn(2, 9, 16)
    mask = torch.ones(2, 9, dtype=torch.bool)
    torch.testing.assert_close(
        encoder(items, mask).pooler_output, encoder(items[:, -4:], mask[:, -4:]).pooler_output
    )


@pytest.mark.parametrize("empty", [torch.full((2, 4), -1), torch.zeros(2, 0, dtype=torch.long)])
@pytest.mark.parametrize(
    "kind", [{"type": "sequence", "dim": 16}, {"type": "user", "num_users": 5, "dim": 16}]
)
def test_an_empty_history_gives_finite_numbers(make_indexed, kind, empty):
    """Nobody has a history: vectors, logits, ids and hits are numbers all the same."""
    items = {"type": "items", "num_items": 30, "dim": 16}
    model = make_indexed(query_encoder=None, item_encoder=items, history_encoder=kind)
    encoded = model.encode_query(history=empty)
    assert encoded.pooler_output.isfinite().all() and encoded.last_hidden_state.isfinite().all()
    out = model.search(history=empty)
    assert out.scores[out.rows >= 0].isfinite().all() and (out.rows >= 0).any()
    real = {tuple(path) for path in model.index.paths.tolist()}
    codes = model.generate(history=empty)[:, 1:] - torch.tensor(model.config.level_offsets)
    assert {tuple(code) for code in codes.tolist()} <= real


def test_an_empty_history_beside_a_full_one_is_finite():
    """Gradients as well: no softmax runs over nothing."""
    with torch.enable_grad():
        encoder = sequence().train()
        items = torch.randn(2, 4, 16, requires_grad=True)
        mask = torch.tensor([[False] * 4, [True] * 4])
        encoder(items, mask).pooler_output.sum().backward()
        assert items.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_a_user_is_an_identity_and_a_mean():
    """Embedding of the number, and the projected mean of the real items, by hand."""
    encoder = UserEncoder(3, 16).eval()
    items, mask = torch.randn(2, 4, 16), torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    out = encoder(items, mask, torch.tensor([2, 0]))
    for row, user in enumerate([2, 0]):
        mean = items[row][mask[row].bool()].mean(0)
        content = mean + encoder.project.weight @ mean + encoder.project.bias
        torch.testing.assert_close(out.last_hidden_state[row, 0], encoder.embedding.weight[user])
        torch.testing.assert_close(out.last_hidden_state[row, 1], content)
        torch.testing.assert_close(out.pooler_output[row], encoder.embedding.weight[user] + content)
    assert out.attention_mask.tolist() == [[1, 1]] * 2


@pytest.mark.parametrize("users", [None, [3, 3], [99, -1]])
def test_an_unknown_user_has_items_alone(users):
    """No number, or one outside the embedding: the identity is zero."""
    encoder = UserEncoder(3, 16).eval()
    items, mask = torch.randn(2, 4, 16), torch.ones(2, 4)
    out = encoder(items, mask, None if users is None else torch.tensor(users))
    assert (out.last_hidden_state[:, 0] == 0).all()
    assert torch.equal(out.pooler_output, out.last_hidden_state[:, 1])


def test_items_from_ids_features_or_both():
    """The embedding, the projected features, and their sum."""
    both = ItemEncoder(5, 16, feature_dim=7).eval()
    both.features.copy_(torch.randn(5, 7))
    rows = torch.tensor([4, 1])
    projected = both.features[rows] @ both.project.weight.T + both.project.bias
    torch.testing.assert_close(both(rows).pooler_output, both.embedding.weight[rows] + projected)
    ids = ItemEncoder(5, 16)
    torch.testing.assert_close(ids(rows).pooler_output, ids.embedding.weight[rows])
    features = ItemEncoder(5, 16, use_ids=False, feature_dim=7).eval()
    features.load_state_dict({k: v for k, v in both.state_dict().items() if "embed" not in k})
    torch.testing.assert_close(features(rows).pooler_output, projected)
    assert both.vectors(rows.view(1, 2)).shape == (1, 2, 16)


def test_adapters_start_as_the_identity(make_model, text):
    """An untrained adapter on either side changes no vector; a trained one does."""
    plain, adapted = make_model(), make_model(query_adapter=True, item_adapter=True)
    adapted.load_state_dict(plain.state_dict(), strict=False)
    for side in ("encode_query", "encode_items"):
        ours, theirs = getattr(adapted, side)(**text), getattr(plain, side)(**text)
        assert torch.equal(ours.pooler_output, theirs.pooler_output)
    adapter = ResidualAdapter(4)
    adapter.weight.copy_(torch.randn(4, 4))
    vector = torch.randn(4)
    torch.testing.assert_close(adapter(vector), vector + adapter.weight @ vector)


@pytest.mark.parametrize("normalize", [True, False])
def test_pooled_vectors_have_unit_length_where_asked(make_model, text, normalize):
    """normalize is the last step."""
    model = make_model(normalize=normalize)
    vectors = model.encode_query(**text).pooler_output
    raw = model.encoder.query(**text).pooler_output
    wanted = raw / raw.norm(dim=1, keepdim=True) if normalize else raw
    torch.testing.assert_close(vectors, wanted)


def test_documents_come_from_text_rows_or_vectors(make_model, text):
    """The item side: shared text encoder, a catalogue, or vectors computed before."""
    model = make_model()
    vectors = model.encode_items(**text).pooler_output
    torch.testing.assert_close(vectors, model.encode_query(**text).pooler_output)
    raw = model.encoder.query(**text).pooler_output
    torch.testing.assert_close(model.encode_items(item_vectors=raw).pooler_output, vectors)
    torch.testing.assert_close(model.encode_query(query_vectors=raw).pooler_output, vectors)
    unmasked = model.encode_items(input_ids=text["input_ids"][:1]).pooler_output
    torch.testing.assert_close(unmasked, vectors[:1])
    items = {"type": "items", "num_items": 5, "dim": 16}
    catalogue = make_model(item_encoder=items)
    wanted = torch.nn.functional.normalize(catalogue.encoder.items.embedding.weight[[3]], dim=-1)
    torch.testing.assert_close(
        catalogue.encode_items(items=torch.tensor([3])).pooler_output, wanted
    )


def test_text_and_history_are_added(make_indexed, text):
    """A query with both: one sequence of vectors, the sum of the pooled ones."""
    model = make_indexed(history_encoder={"type": "sequence", "dim": 16}, normalize=False)
    history = torch.tensor([[-1, 3], [4, 5], [6, 7]])
    out = model.encode_query(**text, history=history)
    words = model.encoder.query(**text)
    past = model.encoder.history(model.vectors[history.clamp(min=0)], history >= 0)
    torch.testing.assert_close(out.pooler_output, words.pooler_output + past.pooler_output)
    assert out.last_hidden_state.shape == (3, 3, 16)
    assert out.attention_mask.tolist() == [[1, 0, 1], [1, 1, 1], [1, 1, 1]]


def test_a_single_part_is_not_copied():
    """concatenate of one output is that output."""
    part = from_vectors(torch.randn(2, 4))
    assert concatenate([part]) is part


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "bog"}, "Unknown encoder type 'bog'; known: text, bag, items, sequence, user"),
        ({}, "Unknown encoder type None"),
        ({"type": "text", "backbone": {"model_type": "bert"}, "pooling": "max"}, "pooling"),
        ({"type": "text", "backbone": {"model_type": "bert"}, "memory": "all"}, "memory"),
        ({"type": "text", "backbone": {"model_type": "nomic_bert_x"}}, "remote code"),
        ({"type": "text", "backbone": {}}, "remote code"),
        ({"type": "items", "num_items": 3, "dim": 4, "use_ids": False}, "use_ids, feature_dim"),
    ],
)
def test_settings_of_an_encoder_that_are_refused(settings, message):
    """One sentence that names the setting or lists what is known."""
    with pytest.raises(ValueError, match=message) as error:
        build_encoder(settings)
    assert len(str(error.value)) < 200


def test_nothing_to_encode_is_an_error(make_model):
    """Neither text nor a history that the model can read; no rows for a catalogue; no text."""
    with pytest.raises(ValueError, match="needs text"):
        make_model().encode_query(history=torch.zeros(1, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="give `items`"):
        make_model(item_encoder={"type": "items", "num_items": 5, "dim": 16}).encode_items()
    with pytest.raises(ValueError, match="document needs text"):
        make_model().encode_items()

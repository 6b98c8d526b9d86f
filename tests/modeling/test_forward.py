"""forward(): logits over generate()'s vocabulary and the loss."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from hf_genret.modeling import GenRetModel


def tokens_of(model, codes):
    """Codes to tokens of the vocabulary."""
    return codes + torch.tensor(model.config.level_offsets)


@pytest.mark.parametrize("shared", [False, True])
def test_logits_are_minus_infinity_outside_the_levels_block(make_model, text, shared):
    """Each position speaks of its own level only, and agrees with path_logits and level_logits."""
    shape = {"share_levels": True, "head_type": "plain", "codebook_sizes": [4, 4, 4]}
    model = make_model(**(shape if shared else {}))
    codes = torch.tensor([[1, 2, 0], [0, 1, 3], [3, 0, 2]])
    with torch.no_grad():
        logits = model(**text, labels=tokens_of(model, codes)).logits
        encoded = model.encode_query(**text)
        paths = model.path_logits(encoded, codes)
        assert logits.shape == (3, 3, model.config.vocab_size) and len(paths) == 3
        offsets, sizes = model.config.level_offsets, model.config.codebook_sizes
        for level, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
            inside = torch.zeros(model.config.vocab_size, dtype=torch.bool)
            inside[offset : offset + size] = True
            assert (logits[:, level, ~inside] == -torch.inf).all()
            torch.testing.assert_close(logits[:, level, inside], paths[level])
            torch.testing.assert_close(model.level_logits(encoded, codes[:, :level]), paths[level])


def test_the_loss_is_the_cross_entropy_of_the_levels(make_model, text):
    """Mean over queries and levels of -log P(code | prefix), by hand."""
    model = make_model()
    codes = torch.tensor([[1, 2, 0], [0, 1, 3], [3, 0, 2]])
    with torch.no_grad():
        loss = model(**text, labels=tokens_of(model, codes)).loss
        levels = model.path_logits(model.encode_query(**text), codes)
    total = 0.0
    for level, logits in enumerate(levels):
        for row, values in enumerate(logits.tolist()):
            top = max(values)
            log_sum = top + math.log(sum(math.exp(v - top) for v in values))
            total += log_sum - values[int(codes[row, level])]
    assert float(loss) == pytest.approx(total / 9, abs=1e-5)


def test_one_query_with_many_prefixes(make_model, text):
    """level_logits lets the prefixes of a query share its encoding."""
    model = make_model()
    prefixes = torch.randint(0, 3, (12, 2))
    with torch.no_grad():
        encoded = model.encode_query(**text)
        together = model.level_logits(encoded, prefixes)
        for row in range(3):
            one = model.encode_query(**{k: v[row : row + 1] for k, v in text.items()})
            for place in range(4 * row, 4 * row + 4):
                alone = model.level_logits(one, prefixes[place : place + 1])
                torch.testing.assert_close(together[place : place + 1], alone)


def test_a_later_code_changes_no_earlier_logits(make_model, text):
    """The decoder is causal."""
    model = make_model()
    codes = torch.zeros(3, 3, dtype=torch.long)
    with torch.no_grad():
        before = model(**text, labels=tokens_of(model, codes)).logits
        codes[:, 1] = 2
        after = model(**text, labels=tokens_of(model, codes)).logits
    assert torch.equal(before[:, :2], after[:, :2]) and not torch.equal(before[:, 2], after[:, 2])


def test_a_cache_computes_new_positions_only(make_model, text):
    """With a cache forward() returns what it lacked, equal to the whole."""
    model = make_model()
    tokens = torch.tensor([[0, 2, 6], [0, 1, 5], [0, 4, 7]])
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with torch.no_grad():
        encoded = model.encode_query(**text)
        whole = model(encoder_outputs=encoded, decoder_input_ids=tokens).logits
        for end in (1, 2, 3):
            part = model(
                encoder_outputs=encoded, decoder_input_ids=tokens[:, :end], past_key_values=cache
            )
            assert part.logits.shape[1] == 1
            torch.testing.assert_close(part.logits[:, 0], whole[:, end - 1])


def test_nothing_to_decode_is_an_error(make_model, text):
    """Neither decoder_input_ids nor labels."""
    with pytest.raises(ValueError, match="decoder_input_ids or labels"):
        make_model()(**text)


def test_an_objective_takes_the_place_of_everything(make_model):
    """forward(objective=, batch=) is what training calls through DDP."""
    model = make_model()
    out = model(objective=lambda seen, batch: {"loss": batch, "model": seen}, batch=7)
    assert out == {"loss": 7, "model": model}


def test_every_parameter_gets_a_gradient(make_model):
    """The loss reaches encoders, decoder and heads; keys have a bias that softmax cancels."""
    model = make_model(
        query_encoder=None,
        item_encoder={"type": "items", "num_items": 9, "dim": 16},
        history_encoder={"type": "sequence", "dim": 16, "layers": 1, "dropout": 0.0},
        query_adapter=True,
    )
    history = torch.tensor([[-1, 1, 2], [3, 4, 5]])
    labels = tokens_of(model, torch.tensor([[1, 2, 0], [0, 1, 3]]))
    model(history=history, labels=labels).loss.backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name for name in without if not name.endswith("key.bias")} == {"ranker.scale"}


def test_the_auto_classes_know_the_model(make_model):
    """AutoModel and AutoModelForSeq2SeqLM build it from its configuration."""
    config = make_model().config
    for auto in (AutoModel, AutoModelForSeq2SeqLM):
        assert type(auto.from_config(copy.deepcopy(config))) is GenRetModel


def test_a_copy_answers_alike(make_indexed, text):
    """deepcopy: same hits, nothing shared."""
    model = make_indexed()
    twin = copy.deepcopy(model)
    assert torch.equal(twin.search(**text).rows, model.search(**text).rows)
    twin.set_index(torch.zeros(2, 3), vectors=torch.zeros(2, 16))
    assert len(model.index) == 30 and model.config.num_documents == 30


def test_rooms_are_imported_under_one_name():
    """A second copy of the classes, as top-level `modeling`, is refused."""
    with pytest.raises(ImportError, match=r"hf_genret\.modeling"):
        __import__("modeling")


def test_the_encoder_is_where_transformers_looks(make_model, text):
    """get_encoder() gives what encodes queries."""
    model = make_model()
    with torch.no_grad():
        wanted = model.encode_query(**text).pooler_output
        assert torch.equal(model.get_encoder()(**text).pooler_output, wanted)

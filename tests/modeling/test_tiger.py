"""TIGER's decoder: histories as codes, looked up by hand, and what is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_genret.modeling import GenRetModel, beam_search
from hf_genret.modeling.tiger_genret import TigerDecoder

ITEMS = {"type": "items", "num_items": 30, "dim": 16}
SEQUENCE = {"type": "sequence", "dim": 16, "layers": 1, "max_length": 5}
SIZES = [4, 3, 5]
PAD = -1


@pytest.fixture(autouse=True)
def no_gradients():
    """Models are only read here."""
    with torch.no_grad():
        yield


@pytest.fixture
def tiger(make_indexed):
    """A model of histories; settings may be changed."""

    def make(**changes) -> GenRetModel:
        settings = {"query_encoder": None, "item_encoder": ITEMS, "history_encoder": SEQUENCE}
        return make_indexed(decoder_type="tiger", **{**settings, **changes})

    return make


def written(model: GenRetModel, history: list[int]) -> Tensor:
    """What the blocks read of a history without padding: its items' codes, one after another."""
    decoder = model.decoder
    ids: dict[int, list[int]] = {}
    for path, row in zip(model.index.paths.tolist(), model.index.rows.tolist(), strict=True):
        ids.setdefault(row, path)
    first = [1, 1 + SIZES[0], 1 + SIZES[0] + SIZES[1]]
    tokens = [first[level] + code for row in history for level, code in enumerate(ids[row])]
    rows = [
        decoder.embedding.weight[token] + decoder.history_position.weight[len(tokens) - 1 - place]
        for place, token in enumerate(tokens)
    ]
    return torch.stack(rows)


def read(model: GenRetModel, states: Tensor) -> Tensor:
    """The memory [T, D] of what was written, without any mask."""
    decoder = model.decoder
    for block in decoder.history_blocks.layers:
        states = block(states[None])[0]
    return decoder.history_output(decoder.history_norm(states))


def test_memory_is_the_codes_of_the_items(tiger):
    """Looked up in the index by hand, three vectors an item, oldest first."""
    model = tiger()
    histories = [[7, 2, 19], [4, 4, 11]]
    encoded = model.encode_query(history=torch.tensor(histories))
    assert encoded.last_hidden_state.shape == (2, 9, 16)
    assert encoded.attention_mask.tolist() == [[1] * 9] * 2
    for row, history in enumerate(histories):
        wanted = read(model, written(model, history))
        torch.testing.assert_close(encoded.last_hidden_state[row], wanted, atol=1e-5, rtol=1e-5)


def test_padding_and_neighbours_change_nothing(tiger):
    """A shorter history in a batch has the memory that it has alone; padding does not count."""
    model = tiger()
    together = model.encode_query(history=torch.tensor([[PAD, PAD, 8], [3, 1, 5]]))
    alone = model.encode_query(history=torch.tensor([[8]]))
    assert together.attention_mask.tolist() == [[0] * 6 + [1] * 3, [1] * 9]
    torch.testing.assert_close(
        together.last_hidden_state[0, 6:], alone.last_hidden_state[0], atol=1e-5, rtol=1e-5
    )


def test_a_large_batch_is_read_in_groups_of_like_length(tiger):
    """Among 200 histories of 0 to 5 items each has the memory that it has alone, in its place."""
    model = tiger()
    torch.manual_seed(0)
    histories = torch.randint(0, 30, (200, 5))
    length = torch.randint(0, 6, (200,))
    histories[torch.arange(5) < 5 - length[:, None]] = PAD
    together = model.encode_query(history=histories)
    for row in range(0, 200, 7):
        count = int(length[row])
        if count:
            alone = model.encode_query(history=histories[row : row + 1, 5 - count :])
            found = together.last_hidden_state[row, 3 * (5 - count) :]
            torch.testing.assert_close(found, alone.last_hidden_state[0], atol=1e-5, rtol=1e-5)
        assert together.attention_mask[row].tolist() == [0] * 3 * (5 - count) + [1] * 3 * count


def test_the_newest_items_are_read(tiger):
    """As many as the sequence encoder reads."""
    model, history = tiger(), torch.tensor([[9, 1, 2, 3, 4, 5, 6]])
    found = model.encode_query(history=history)
    torch.testing.assert_close(
        found.last_hidden_state, model.encode_query(history=history[:, 2:]).last_hidden_state
    )
    assert found.last_hidden_state.shape[1] == 5 * 3


def test_the_pooled_vector_is_the_sequence_encoder_s(tiger):
    """What the ranker compares does not depend on ids, nor on the decoder."""
    model, history = tiger(), torch.tensor([[2, 9, 4]])
    plain = model.encoder(
        history_vectors=model.encoder.items.vectors(history), history_mask=history >= 0
    )
    before = model.encode_query(history=history)
    assert torch.equal(before.pooler_output, plain.pooler_output)
    model.set_index(model.index.paths.long().flip(0), vectors=model.vectors)
    after = model.encode_query(history=history)
    assert torch.equal(after.pooler_output, plain.pooler_output)
    assert not torch.allclose(after.last_hidden_state, before.last_hidden_state)


def test_items_without_an_id_do_not_count(tiger):
    """Beyond the index, or in none of its paths; a document with several is read by the first."""
    model = tiger()
    codes = torch.tensor([[3, 0, 0], [1, 2, 3], [0, 1, 1]])
    model.set_index(codes, torch.tensor([0, 2, 0]), vectors=torch.zeros(3, 16))
    encoded = model.encode_query(history=torch.tensor([[0, 1, 2, 29]]))
    assert encoded.attention_mask.tolist() == [[1] * 3 + [0] * 3 + [1] * 3 + [0] * 3]
    found, known = model.index.codes_of(torch.tensor([[0, 1, 2, 29, PAD]]))
    assert known.tolist() == [[True, False, True, False, False]]
    assert found.tolist() == [[[0, 1, 1], [0, 0, 0], [1, 2, 3], [0, 0, 0], [0, 0, 0]]]


def test_without_ids_there_are_vectors(make_model):
    """Stages before the ids train the ranker: what is encoded is what the encoder says."""
    settings = {"query_encoder": None, "item_encoder": ITEMS, "history_encoder": SEQUENCE}
    model = make_model(decoder_type="tiger", **settings)
    encoded = model.encode_query(history=torch.tensor([[PAD, 3, 1]]))
    assert encoded.last_hidden_state.shape == (1, 3, 16)


def test_text_stays_in_front(tiger, bert, text):
    """A query of text and history: its tokens' vectors as they were, then the codes."""
    tokens = {"type": "text", "backbone": bert, "memory": "tokens"}
    model = tiger(query_encoder=tokens, item_encoder=None)
    alone = model.encode_query(**text)
    both = model.encode_query(**text, history=torch.tensor([[5, 2], [PAD, 1], [PAD, PAD]]))
    width = text["input_ids"].shape[1]
    assert both.last_hidden_state.shape[1] == width + 2 * 3
    torch.testing.assert_close(both.last_hidden_state[:, :width], alone.last_hidden_state)
    assert both.attention_mask[:, width:].tolist() == [[1] * 6, [0] * 3 + [1] * 3, [0] * 6]
    pooled = model.encode_query(**text, history=torch.tensor([[PAD]] * 3)).pooler_output
    torch.testing.assert_close(pooled, alone.pooler_output)


def test_sets_and_texts_are_read_as_ever(tiger, make_indexed):
    """A user's items have no order, and a model of texts has no histories."""
    users = tiger(history_encoder={"type": "user", "num_users": 3, "dim": 16})
    for model in (users, make_indexed(decoder_type="tiger")):
        assert isinstance(model.decoder, TigerDecoder) and not model.decoder.reads_histories
        assert not any("history" in name for name, _ in model.decoder.named_parameters())
    history = torch.tensor([[1, 2]])
    assert users.encode_query(history=history).last_hidden_state.shape == (1, 2, 16)


def test_an_empty_history_has_an_answer(tiger):
    """Nothing to attend to is no reason for a NaN."""
    model = tiger()
    beams = beam_search(model, model.encode_query(history=torch.tensor([[PAD, PAD]])), 4)
    assert beams.scores.isfinite().all()

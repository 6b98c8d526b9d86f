"""Our beam loop, transformers' generate() and brute force over all ids, side by side."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessorList

from hf_genret.modeling import EncoderOutput, TrieLogitsProcessor, beam_search

SHAPES = {
    "cluster": {},
    "one level": {"codebook_sizes": [9]},
    "unary levels": {"codebook_sizes": [1, 4, 1, 3]},
    "deep": {"codebook_sizes": [3, 2, 2, 2, 3]},
    "flat levels": {"codebook_sizes": [4, 3, 5, 2], "max_head_nodes": 6},
    "dot product": {"head_similarity": "dot"},
    "plain": {"head_type": "plain", "codebook_sizes": [5, 2, 4]},
    "prefix aware": {"head_type": "prefix_aware", "head_matrices": 3},
    "shared plain": {"head_type": "plain", "share_levels": True, "codebook_sizes": [4, 4, 4]},
    "mlp": {"decoder_type": "mlp", "head_type": "plain"},
    "mlp under clusters": {"decoder_type": "mlp", "decoder_layers": 1},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_wide_beam_is_brute_force(make_indexed, exhaustive, best, text, shape):
    """With a beam as wide as the index: every id, in order, with its own log-probability."""
    model = make_indexed(**shape)
    truth = exhaustive(model, **text)
    with torch.no_grad():
        beams = beam_search(model, model.encode_query(**text), len(truth) + 2)
    for row in range(3):
        found = [tuple(c) for c in beams.codes[row][beams.leaf[row] >= 0].tolist()]
        assert found == best(truth, row, len(truth))
        wanted = torch.stack([truth[path][row] for path in found])
        torch.testing.assert_close(
            beams.scores[row][: len(found)], wanted, atol=1e-4, rtol=0, check_dtype=False
        )
    assert (beams.scores[beams.leaf < 0] == -torch.inf).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("width", [1, 3, 8])
def test_the_loop_equals_generate(make_indexed, text, shape, width):
    """Same ids, scores within 1e-4, at every beam."""
    model = make_indexed(**shape)
    with torch.no_grad():
        ours = beam_search(model, model.encode_query(**text), width)
    theirs = model.generate(
        **text,
        num_beams=max(width, 2),
        num_return_sequences=width,
        return_dict_in_generate=True,
        output_scores=True,
    )
    if width == 1:  # transformers has no beam of one: its greedy search is that
        theirs.sequences = model.generate(**text, num_beams=1)
    offsets = torch.tensor(model.config.level_offsets)
    tokens = torch.where(ours.leaf[..., None] < 0, 0, ours.codes + offsets)
    sequences = theirs.sequences.view(3, width, -1)
    assert torch.equal(sequences[..., 1 : 1 + tokens.shape[-1]][:, : tokens.shape[1]], tokens)
    if width > 1:
        real = ours.leaf >= 0
        scores = theirs.sequences_scores.view(3, width)[:, : real.shape[1]]
        torch.testing.assert_close(scores[real], ours.scores[real], atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_narrow_beam_is_a_beam_in_plain_python(make_indexed, plain_beam, text, shape, width):
    """Pruned level by level as the same search over nested dictionaries."""
    model = make_indexed(**shape)
    with torch.no_grad():
        ours = beam_search(model, model.encode_query(**text), width)
    for row, wanted in enumerate(plain_beam(model, width, **text)):
        assert [tuple(c) for c in ours.codes[row].tolist()] == [path for path, _ in wanted]
        scores = torch.tensor([score for _, score in wanted])
        torch.testing.assert_close(ours.scores[row], scores, atol=1e-4, rtol=0)


@pytest.fixture
def memories(make_indexed, text, bert):
    """Models whose decoder attends to several vectors, each with its queries."""
    sequence = {"type": "sequence", "dim": 16, "layers": 1, "max_length": 5}
    history = torch.tensor([[-1, -1, 3], [4, 5, 6], [-1, -1, -1]])
    items = {"type": "items", "num_items": 30, "dim": 16}
    tokens = {"type": "text", "backbone": bert, "memory": "tokens"}
    return {
        "history": (
            make_indexed(query_encoder=None, item_encoder=items, history_encoder=sequence),
            {"history": history},
        ),
        "tokens": (make_indexed(query_encoder=tokens), text),
        "both": (
            make_indexed(query_encoder=tokens, history_encoder=sequence),
            {**text, "history": history},
        ),
        "codes": (
            make_indexed(
                query_encoder=None,
                item_encoder=items,
                history_encoder=sequence,
                decoder_type="tiger",
                head_type="plain",
            ),
            {"history": history},
        ),
        "text and codes": (
            make_indexed(query_encoder=tokens, history_encoder=sequence, decoder_type="tiger"),
            {**text, "history": history},
        ),
    }


@pytest.mark.parametrize("name", ["history", "tokens", "both", "codes", "text and codes"])
def test_a_memory_of_several_vectors(memories, exhaustive, best, name):
    """History, its codes, tokens or both: loop, generate() and brute force agree."""
    model, inputs = memories[name]
    truth = exhaustive(model, **inputs)
    with torch.no_grad():
        beams = beam_search(model, model.encode_query(**inputs), 40)
    out = model.generate(**inputs, num_beams=40, num_return_sequences=5)
    offsets = torch.tensor(model.config.level_offsets)
    for row in range(3):
        wanted = best(truth, row, 5)
        assert [tuple(c) for c in beams.codes[row, :5].tolist()] == wanted
        assert [tuple(c) for c in (out.view(3, 5, -1)[row, :, 1:] - offsets).tolist()] == wanted
        scores = torch.stack([truth[path][row] for path in wanted])
        torch.testing.assert_close(beams.scores[row, :5], scores, atol=1e-4, rtol=0)


def test_probabilities_of_the_full_tree_sum_to_one(make_model, every_id, text):
    """Levels are distributions: over all ids that can be spelled nothing is missing."""
    model = make_model()
    model.set_index(every_id(model.config.codebook_sizes))
    with torch.no_grad():
        beams = beam_search(model, model.encode_query(**text), 60)
    torch.testing.assert_close(beams.scores.exp().sum(1), torch.ones(3))


def test_an_empty_index_and_no_beams_are_errors(make_model, make_indexed, text):
    """One sentence each."""
    model = make_model()
    encoded = model.encode_query(**text)
    with pytest.raises(ValueError, match="index is empty"):
        beam_search(model, encoded, 3)
    with pytest.raises(ValueError, match="num_beams must be positive, found 0"):
        beam_search(make_indexed(), encoded, 0)


@pytest.mark.parametrize("shape", ["cluster", "shared plain", "unary levels"])
def test_the_processor_leaves_what_the_dict_trie_leaves(make_indexed, dict_trie, shape):
    """At every real prefix exactly the children keep their scores, untouched."""
    model = make_indexed(**SHAPES[shape])
    offsets = model.config.level_offsets
    trie = dict_trie(model.index.paths.tolist())
    processor = TrieLogitsProcessor(model.index, offsets)
    for level, offset in enumerate(offsets):
        prefixes = trie.prefixes(level)
        tokens = [[0, *(c + o for c, o in zip(p, offsets, strict=False))] for p in prefixes]
        scores = torch.randn(len(prefixes), model.config.vocab_size)
        out = processor(torch.tensor(tokens), scores)
        for row, prefix in enumerate(prefixes):
            wanted = torch.full((model.config.vocab_size,), -torch.inf)
            for code in trie.node(prefix):
                wanted[code + offset] = scores[row, code + offset]
            assert torch.equal(out[row], wanted)


def test_a_dead_row_may_only_pad(make_model):
    """Prefixes that no id has, also pads and foreign tokens, go on with pad."""
    model = make_model()
    model.set_index(torch.tensor([[0, 0, 0], [2, 1, 4]]))
    processor = TrieLogitsProcessor(model.index, model.config.level_offsets)
    out = processor(torch.tensor([[0, 2], [0, 0], [0, 9], [0, 3]]), torch.randn(4, 13))
    assert out[:3].isfinite().nonzero().tolist() == [[0, 0], [1, 0], [2, 0]]
    assert out[3].isfinite().nonzero().tolist() == [[6]]


def test_the_processor_works_in_transformers_own_list(make_indexed, text):
    """Passed by hand as well, it changes nothing."""
    model = make_indexed()
    mine = LogitsProcessorList([TrieLogitsProcessor(model.index, model.config.level_offsets)])
    assert torch.equal(model.generate(**text, logits_processor=mine), model.generate(**text))


def test_the_processor_refuses_an_empty_index(make_model):
    """No index, no constraint: an error and not a free choice."""
    model = make_model()
    with pytest.raises(ValueError, match="index is empty"):
        TrieLogitsProcessor(model.index, model.config.level_offsets)


# ---- other ways to search -----------------------------------------------------------------


def renormalized(model, truth_of, **inputs):
    """log P of each id among those that exist: every step's softmax over existing codes only."""
    paths = sorted({tuple(path) for path in model.index.paths.tolist()})
    trie = {path[:level] for path in paths for level in range(len(path) + 1)}
    offsets, out = model.config.level_offsets, {}
    for path in paths:
        total = torch.zeros(len(next(iter(inputs.values()))))
        for level in range(len(path)):
            tokens = [0, *(c + o for c, o in zip(path[:level], offsets, strict=False))]
            with torch.no_grad():
                rows = torch.tensor([tokens]).expand(len(total), -1)
                logits = model(decoder_input_ids=rows, **inputs).logits[:, -1]
            ways = [
                c for c in range(model.config.codebook_sizes[level]) if (*path[:level], c) in trie
            ]
            block = logits[:, [c + offsets[level] for c in ways]].log_softmax(-1)
            total = total + block[:, ways.index(path[level])]
        out[path] = total
    return out


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_renormalized_scores_are_those_of_existing_codes(make_indexed, best, text, shape):
    """A wide beam gives every id with the probability among ids that exist; they sum to one."""
    model = make_indexed(**shape)
    truth = renormalized(model, best, **text)
    with torch.no_grad():
        beams = beam_search(model, model.encode_query(**text), len(truth) + 2, renormalize=True)
    for row in range(3):
        found = [tuple(c) for c in beams.codes[row][beams.leaf[row] >= 0].tolist()]
        assert found == best(truth, row, len(truth))
        wanted = torch.stack([truth[path][row] for path in found])
        torch.testing.assert_close(beams.scores[row][: len(found)], wanted, atol=1e-4, rtol=0)
    totals = beams.scores.exp().sum(1)
    torch.testing.assert_close(totals, torch.ones(3), atol=1e-4, rtol=0)


def test_a_search_ends_where_one_way_is_left(make_indexed, text, monkeypatch):
    """Unary chains need no decoder; without renormalising they do, as their scores count."""
    from hf_genret.modeling.steps_genret import DecoderSteps

    model = make_indexed(codebook_sizes=[30, 4, 4, 4])
    columns = [torch.arange(30), *(torch.randint(0, 4, (30,)) for _ in range(3))]
    model.set_index(torch.stack(columns, 1))
    steps = []
    real = DecoderSteps.step
    monkeypatch.setattr(DecoderSteps, "step", lambda self, x: steps.append(1) or real(self, x))
    encoded = model.encode_query(**text)
    ours = beam_search(model, encoded, 5, renormalize=True)
    assert len(steps) == 1 and ours.codes.shape == (3, 5, 4)
    assert torch.equal(model.index.locate(ours.codes.flatten(0, 1)).view_as(ours.leaf), ours.leaf)
    beam_search(model, encoded, 5)
    assert len(steps) == 1 + 4


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_complete_says_that_nothing_was_dropped(make_indexed, text, shape):
    """True as soon as the beam holds all prefixes of every level, False below."""
    model = make_indexed(**shape)
    most = max(model.index.num_nodes)
    with torch.no_grad():
        encoded = model.encode_query(**text)
        assert beam_search(model, encoded, most).complete.all()
        if most > 1:
            assert not beam_search(model, encoded, most - 1).complete.any()


@pytest.mark.parametrize("head_type", ["plain", "cluster", "codebook"])
def test_a_search_never_waits_for_an_accelerator(make_model, head_type):
    """Tensors without data can be computed with but not asked: nothing reads one on the host.

    So that a search can be captured as one CUDA graph. What is derived of the index is there
    before, as after a first search.
    """
    model = make_model(codebook_sizes=[4, 4, 4], head_type=head_type)
    model.set_index(torch.randint(0, 4, (40, 3)))
    states = torch.randn(2, 3, 16)
    found = EncoderOutput(states, states.mean(1), torch.ones(2, 3, dtype=torch.long))
    real = beam_search(model, found, 5)
    for level in range(3):
        model.index.keys(level)
    derived = {
        name: value.to("meta") if isinstance(value, torch.Tensor) else value
        for name, value in model.index._derived.items()
    }
    model.to("meta")
    model.index._derived = derived
    shapes = EncoderOutput({name: value.to("meta") for name, value in found.items()})
    there = beam_search(model, shapes, 5)
    assert there.codes.shape == real.codes.shape and there.codes.device.type == "meta"
    with pytest.raises(RuntimeError):  # and tensors without data do refuse
        bool(there.scores.any())


def test_what_a_search_leaves_can_be_trained_with(make_indexed, text):
    """Leaves and scores are plain tensors, and so is what was derived of the index on the way."""
    model = make_indexed()
    beams = beam_search(model, model.encode_query(**text), 3)
    parts = [beams.codes, beams.scores, beams.leaf, beams.complete]
    derived = [part for part in model.index._derived.values() if isinstance(part, torch.Tensor)]
    assert derived and not any(part.is_inference() for part in parts + derived)
    assert not any(part.requires_grad for part in parts)


@pytest.mark.parametrize("head_type", ["plain", "cluster", "codebook"])
def test_a_search_is_one_graph(make_model, head_type):
    """torch.compile finds nothing in it where it would have to stop, and the ids are the same."""
    model = make_model(codebook_sizes=[4, 9, 4], head_type=head_type)
    model.set_index(torch.randint(0, 4, (40, 3)))
    states = torch.randn(2, 3, 16)
    found = EncoderOutput(states, states.mean(1), torch.ones(2, 3, dtype=torch.long))
    ours = beam_search(model, found, 5)

    def search(encoded):
        beams = beam_search(model, encoded, 5)
        return beams.codes, beams.scores

    whole = torch.compile(search, fullgraph=True, backend="eager")
    codes, scores = whole(found)
    assert torch.equal(codes, ours.codes)
    torch.testing.assert_close(scores, ours.scores, atol=1e-5, rtol=1e-5)

"""generate(): only ids that exist, whatever the settings; contradictions in one sentence."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from hf_genret.modeling import TrieLogitsProcessor

MODES = {
    "default": {},
    "greedy": {"num_beams": 1},
    "beam": {"num_beams": 5, "num_return_sequences": 5},
    "length penalty": {"num_beams": 8, "num_return_sequences": 8, "length_penalty": 1.0},
    "early stopping": {"num_beams": 4, "num_return_sequences": 2, "early_stopping": True},
    "renormalized": {"num_beams": 5, "renormalize_logits": True},
    "sample": {"do_sample": True, "num_beams": 1, "num_return_sequences": 7},
    "hot": {"do_sample": True, "num_beams": 1, "temperature": 5.0, "num_return_sequences": 7},
    "top_k": {"do_sample": True, "num_beams": 1, "top_k": 1, "num_return_sequences": 3},
    "top_p": {"do_sample": True, "num_beams": 1, "top_p": 0.3, "num_return_sequences": 7},
    "typical": {"do_sample": True, "num_beams": 1, "typical_p": 0.3, "num_return_sequences": 7},
    "min_p": {"do_sample": True, "num_beams": 1, "min_p": 0.5, "num_return_sequences": 7},
    "repetition": {"num_beams": 5, "repetition_penalty": 1e6},
    "repetition below one": {"num_beams": 1, "repetition_penalty": 1e-6},
    "beam sample": {"do_sample": True, "num_beams": 5, "num_return_sequences": 5, "top_k": 4},
    "hot beam sample": {"do_sample": True, "num_beams": 30, "temperature": 9.0},
}


def ids_of(model, sequences):
    """Generated ids as tuples of codes, rows of pad left out."""
    real = sequences[(sequences[:, 1:] != 0).any(1)][:, 1:]
    return [tuple(c) for c in (real - torch.tensor(model.config.level_offsets)).tolist()]


@pytest.mark.parametrize("settings", MODES.values(), ids=MODES)
@pytest.mark.parametrize("shared", [False, True])
def test_only_ids_that_exist(make_indexed, text, settings, shared):
    """Every mode emits start token and a real id in each row."""
    shape = {"share_levels": True, "head_type": "plain", "codebook_sizes": [5, 5, 5]}
    model = make_indexed(**(shape if shared else {}))
    out = model.generate(**text, **settings)
    assert out.shape == (3 * settings.get("num_return_sequences", 1), 4)
    assert (out[:, 0] == 0).all()
    real = {tuple(path) for path in model.index.paths.tolist()}
    found = ids_of(model, out)
    assert set(found) <= real
    assert len(found) == len(out)


def test_the_default_is_a_beam_of_the_configured_width(make_indexed, text):
    """Beam, length and penalty come from the generation configuration of the model."""
    model = make_indexed(search_beams=6)
    settings = model.generation_config
    assert (settings.num_beams, settings.max_new_tokens, settings.length_penalty) == (6, 3, 0.0)
    assert torch.equal(model.generate(**text), model.generate(**text, num_beams=6))


def test_sampling_is_the_distribution_over_real_ids(make_model, text):
    """Frequencies of 4,000 samples follow the probabilities, renormalised at each step."""
    model = make_model(codebook_sizes=[3, 2])
    model.set_index(torch.tensor([[0, 0], [0, 1], [2, 1]]))
    query = {name: value[:1] for name, value in text.items()}
    out = model.generate(**query, do_sample=True, num_beams=1, num_return_sequences=4000, top_k=0)
    with torch.no_grad():
        first, second = model.path_logits(model.encode_query(**query), torch.zeros(1, 1).long())
    top = first[0, [0, 2]].softmax(-1)
    wanted = torch.stack([*(top[0] * second[0].softmax(-1)), top[1]])
    found = ids_of(model, out)
    counts = torch.tensor([found.count(i) for i in [(0, 0), (0, 1), (2, 1)]]) / 4000
    torch.testing.assert_close(counts, wanted, atol=0.03, rtol=0)


def test_the_cache_changes_nothing(make_indexed, text):
    """use_cache=True and False: the same ids and scores."""
    model = make_indexed(codebook_sizes=[4, 3, 5, 3])
    settings = {"num_beams": 6, "num_return_sequences": 6}
    out = [
        model.generate(
            **text,
            **settings,
            use_cache=cache,
            return_dict_in_generate=True,
            output_scores=True,
        )
        for cache in (True, False)
    ]
    assert torch.equal(out[0].sequences, out[1].sequences)
    torch.testing.assert_close(out[0].sequences_scores, out[1].sequences_scores)


def test_a_dictionary_when_asked(make_indexed, text):
    """return_dict_in_generate gives the same sequences as a dictionary."""
    model = make_indexed()
    out = model.generate(**text, return_dict_in_generate=True, output_scores=True)
    assert torch.equal(out["sequences"], model.generate(**text))
    assert len(out.scores) == 3


@pytest.mark.parametrize("penalty", [0.0, 1.0, -1.0])
def test_more_ids_than_exist(make_model, exhaustive, text, penalty):
    """Surplus rows are all pad, the real ones are each id once, best first."""
    model = make_model()
    model.set_index(torch.tensor([[0, 0, 0], [0, 0, 3], [2, 1, 4], [2, 1, 4]]))
    out = model.generate(**text, num_beams=9, num_return_sequences=9, length_penalty=penalty)
    truth = exhaustive(model, **text)
    for row, sequences in enumerate(out.view(3, 9, -1)):
        found = ids_of(model, sequences)
        assert found == sorted(truth, key=lambda path: -float(truth[path][row]))
        assert int((sequences == 0).all(1).sum()) == 6


def test_one_id_only(make_model, text):
    """An index of a single document: that id, with and without beams."""
    model = make_model(codebook_sizes=[1, 1, 1])
    model.set_index(torch.zeros(1, 3))
    assert model.generate(**text, num_beams=1).tolist() == [[0, 1, 2, 3]] * 3
    assert model.generate(**text, num_beams=3).tolist() == [[0, 1, 2, 3]] * 3


class Favour(LogitsProcessor):
    """Pushes tokens up, also those that the constraint had ruled out."""

    def __init__(self, tokens):
        self.tokens = tokens

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.tokens] = 1e4
        return scores


@pytest.mark.parametrize("tokens", [list(range(13)), [12], [0]])
@pytest.mark.parametrize("mode", ["greedy", "beam", "sample", "beam sample"])
def test_a_users_processor_cannot_bring_an_invalid_id_back(make_indexed, text, tokens, mode):
    """The constraint acts again after the user's processors."""
    model = make_indexed(documents=12)
    out = model.generate(
        **text, logits_processor=LogitsProcessorList([Favour(tokens)]), **MODES[mode]
    )
    real = {tuple(path) for path in model.index.paths.tolist()}
    assert len(set(ids_of(model, out))) > 0 and set(ids_of(model, out)) <= real


def test_a_users_processor_sees_real_ids_only(make_indexed, text):
    """The constraint acts first as well."""
    seen = []

    class Spy(LogitsProcessor):
        def __call__(self, input_ids, scores):
            seen.append(scores.isfinite().sum(-1))
            return scores

    model = make_indexed(documents=12)
    model.generate(**text, num_beams=1, logits_processor=LogitsProcessorList([Spy()]))
    sizes = model.config.codebook_sizes
    assert all((count <= size).all() for count, size in zip(seen, sizes, strict=True))


CONTRADICTIONS = [
    {"max_new_tokens": 2},
    {"max_new_tokens": 4},
    {"max_length": 9},
    {"min_length": 3},
    {"min_new_tokens": 2},
    {"forced_bos_token_id": 1},
    {"forced_eos_token_id": 1},
    {"suppress_tokens": [1]},
    {"begin_suppress_tokens": [1]},
    {"bad_words_ids": [[1]]},
    {"sequence_bias": {(1,): -10.0}},
    {"no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 1},
    {"guidance_scale": 2.0},
    {"remove_invalid_values": True},
    {"exponential_decay_length_penalty": (1, 2.0)},
    {"eos_token_id": 2},
    {"max_time": 0.5},
    {"stop_strings": ["a"]},
]


@pytest.mark.parametrize(
    "setting",
    [*CONTRADICTIONS, {"stopping_criteria": [lambda ids, scores: True]}],
    ids=lambda setting: next(iter(setting)),
)
def test_a_contradicting_setting_is_refused(make_indexed, text, setting):
    """One sentence that names it."""
    with pytest.raises(ValueError, match=next(iter(setting))) as error:
        make_indexed().generate(**text, **setting)
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("setting", CONTRADICTIONS, ids=lambda setting: next(iter(setting)))
def test_a_contradicting_configuration_is_refused(make_indexed, text, setting):
    """The same in a GenerationConfig."""
    given = GenerationConfig(num_beams=3, **setting)
    with pytest.raises(ValueError, match=next(iter(setting))):
        make_indexed().generate(**text, generation_config=given)


OTHER_WAYS = [
    *[
        {"cache_implementation": kind}
        for kind in ("static", "offloaded", "offloaded_static", "quantized", "hybrid", "paged")
    ],
    {"num_beam_groups": 2},
    {"penalty_alpha": 0.5},
    {"dola_layers": "low"},
    {"prompt_lookup_num_tokens": 3},
    {"assistant_early_exit": 2},
    {"is_assistant": True},
    {"low_memory": True},
    {"token_healing": True},
]


@pytest.mark.parametrize(
    "setting", OTHER_WAYS, ids=lambda setting: "-".join(map(str, *setting.items()))
)
@pytest.mark.parametrize("given", ["argument", "configuration", "model"])
def test_another_way_to_decode_is_refused(make_indexed, text, setting, given):
    """Wherever it is set, before anything is generated, in one sentence."""
    model, settings = make_indexed(), {}
    if given == "argument":
        settings = setting
    elif given == "configuration":
        settings = {"generation_config": GenerationConfig()}
        vars(settings["generation_config"]).update(setting)
    else:
        vars(model.generation_config).update(setting)
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* is of no use") as error:
        model.generate(**text, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cache", [None, True, False])
def test_the_usual_cache_may_be_named(make_indexed, text, cache):
    """It is what generate() takes by itself; an argument goes before the model's setting."""
    model = make_indexed()
    wanted = model.generate(**text)
    settings = {"cache_implementation": "dynamic", "use_cache": cache}
    assert torch.equal(model.generate(**text, **settings), wanted)
    model.generation_config.cache_implementation = "static"
    assert torch.equal(model.generate(**text, **settings), wanted)


@pytest.mark.parametrize(
    "setting",
    [{"max_new_tokens": 3}, {"max_length": 4}, {"min_length": 0}, {"guidance_scale": 1.0}],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_that_says_the_same_is_welcome(make_indexed, text, setting):
    """What agrees with ids of fixed length changes nothing."""
    model = make_indexed()
    assert torch.equal(model.generate(**text, **setting), model.generate(**text))


@pytest.mark.parametrize(
    "name", ["num_beam", "hystory", "assistant_model", "custom_generate", "past_key_values"]
)
def test_an_argument_without_use_is_refused(make_indexed, text, name):
    """A misspelled setting, or another way to decode, is not ignored."""
    with pytest.raises(ValueError, match=name):
        make_indexed().generate(**text, **{name: 1})


def test_a_generation_configuration_is_used(make_indexed, text):
    """Settings may come in a GenerationConfig."""
    model = make_indexed()
    given = GenerationConfig(num_beams=4, num_return_sequences=2, length_penalty=0.0)
    wanted = model.generate(**text, num_beams=4, num_return_sequences=2)
    assert torch.equal(model.generate(**text, generation_config=given), wanted)


def test_queries_may_come_encoded_or_without_a_mask(make_indexed, text):
    """inputs, input_ids and encoder_outputs are the same query."""
    model = make_indexed()
    ids = text["input_ids"][:1]
    wanted = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert torch.equal(model.generate(ids), wanted)
    assert torch.equal(model.generate(encoder_outputs=model.encode_query(input_ids=ids)), wanted)


def test_an_empty_index_is_an_error(make_model, text):
    """No ids, nothing to generate: one sentence."""
    with pytest.raises(ValueError, match="index is empty"):
        make_model().generate(**text)


def test_the_same_seed_samples_the_same_ids(make_indexed, text):
    """Sampling follows torch's seed."""
    model = make_indexed()
    out = []
    for _ in range(2):
        torch.manual_seed(7)
        out.append(model.generate(**text, **MODES["hot"]))
    assert torch.equal(*out)


def test_what_was_encoded_stays_as_it_was(make_indexed, text):
    """Encoded queries can be given again: beams are not repeated into them."""
    model = make_indexed()
    with torch.no_grad():
        encoded = model.encode_query(**text)
    first = model.generate(encoder_outputs=encoded, num_beams=3)
    assert encoded.pooler_output.shape[0] == encoded.last_hidden_state.shape[0] == 3
    assert torch.equal(model.generate(encoder_outputs=encoded, num_beams=3), first)


def test_the_processor_follows_tokens_that_change_in_place(make_indexed):
    """A buffer that is written again is read again; in inference mode, too."""
    model = make_indexed()
    trie = TrieLogitsProcessor(model.index, model.config.level_offsets)
    ids = model.index.paths[[0, -1]].long() + torch.tensor(model.config.level_offsets)
    tokens = torch.cat([torch.zeros(1, 1, dtype=torch.long), ids[:1, :1]], dim=1)
    scores = torch.randn(1, model.config.vocab_size)
    first = trie(tokens, scores)
    assert torch.equal(trie(tokens, scores), first)
    tokens[0, 1] = ids[1, 0]
    fresh = TrieLogitsProcessor(model.index, model.config.level_offsets)
    assert torch.equal(trie(tokens, scores), fresh(tokens.clone(), scores))
    with torch.inference_mode():
        assert torch.equal(trie(tokens.clone(), scores), fresh(tokens.clone(), scores))

"""The configuration: what it derives, how it travels, what it refuses."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from hf_genret.modeling import GenRetConfig, GenRetModel


def test_levels_have_their_own_blocks_of_the_vocabulary():
    """Token 0 is pad and start; blocks follow one another."""
    config = GenRetConfig(codebook_sizes=[4, 3, 5])
    assert (config.level_offsets, config.vocab_size, config.num_levels) == ([1, 5, 8], 13, 3)


def test_shared_levels_share_one_block():
    """share_levels gives every level the same tokens."""
    config = GenRetConfig(codebook_sizes=[4, 4], share_levels=True, head_type="plain")
    assert (config.level_offsets, config.vocab_size) == ([1, 1], 5)


def test_a_configuration_survives_a_file(tmp_path):
    """Every field comes back from JSON, through AutoConfig."""
    config = GenRetConfig(
        query_encoder={"type": "bag", "vocab_size": 9, "dim": 16},
        history_encoder={"type": "sequence", "dim": 16},
        vector_dim=16,
        codebook_sizes=[5, 2],
        decoder_layers=3,
        beam_weight=0.25,
        query_prompt="query: ",
        num_paths=7,
        num_nodes=[2, 3],
        num_documents=6,
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is GenRetConfig
    ours, theirs = config.to_dict(), loaded.to_dict()
    assert {k: v for k, v in ours.items() if k != "_name_or_path"} == {
        k: v for k, v in theirs.items() if k != "_name_or_path"
    }
    assert (loaded.num_hidden_layers, loaded.hidden_size) == (3, 128)


def test_both_auto_classes_are_named():
    """AutoModel and AutoModelForSeq2SeqLM find the class from config.json alone."""
    assert set(GenRetConfig().auto_map) == {"AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM"}


def test_the_callers_dictionary_is_not_shared():
    """Changing the dictionary afterwards leaves the configuration alone."""
    encoder = {"type": "bag", "vocab_size": 9}
    config = GenRetConfig(query_encoder=encoder)
    encoder["vocab_size"] = 10
    assert config.query_encoder["vocab_size"] == 9


def test_caches_are_sized_by_the_decoder():
    """generate() asks for a text configuration and gets this one."""
    config = GenRetConfig()
    assert config.get_text_config(decoder=True) is config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codebook_sizes": [4, 0]}, "codebook_sizes"),
        ({"codebook_sizes": []}, "codebook_sizes"),
        ({"codebook_sizes": [4, 4], "num_nodes": [1]}, "num_nodes has 1"),
        ({"codebook_sizes": [4, 4], "share_levels": True}, "share_levels"),
        ({"codebook_sizes": [4, 3], "share_levels": True, "head_type": "plain"}, "share_levels"),
        ({"decoder_dim": 10, "decoder_heads": 4}, "multiple of decoder_heads"),
        ({"head_similarity": "euclid"}, "cosine or dot"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    """One sentence that names the setting."""
    with pytest.raises(ValueError, match=message):
        GenRetConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder_type": "rnn"}, "Unknown decoder_type 'rnn'; known: transformer"),
        ({"head_type": "tree"}, "Unknown head_type 'tree'; known: plain, cluster"),
        ({"query_encoder": {"type": "bog"}}, "Unknown encoder type 'bog'; known: text, bag"),
        (
            {"query_encoder": {"type": "bag", "vocab_size": 9, "dim": 8}},
            "width 8, vector_dim is 64",
        ),
    ],
)
def test_a_model_refuses_parts_that_do_not_exist_or_fit(settings, message):
    """Unknown names list the known ones; widths are compared."""
    with pytest.raises(ValueError, match=message):
        GenRetModel(GenRetConfig(**settings))

"""The MLP decoder by hand, and one position at a time."""

from __future__ import annotations

import pytest
import torch

from hf_genret.modeling import EncoderOutput, beam_search


def mlp_model(make_model, **changes):
    settings = {"decoder_type": "mlp", "head_type": "plain", "codebook_sizes": [4, 3, 5]}
    return make_model(**{**settings, **changes})


@pytest.mark.parametrize("layers", [1, 2])
def test_a_path_by_hand(make_model, text, layers):
    """softmax(W_l MLP_l([query; codes before])) of every level, written out."""
    model = mlp_model(make_model, decoder_layers=layers)
    codes = torch.tensor([[3, 0, 4], [1, 2, 0], [0, 0, 1]])
    weights = dict(model.state_dict())
    with torch.no_grad():
        encoded = model.encode_query(**text)
        found = model.path_logits(encoded, codes)

    def linear(name, states):
        return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    read = linear("decoder.query", encoded.pooler_output)
    for level, offset in enumerate(model.config.level_offsets):
        states = read
        for layer in range(layers):
            states = torch.nn.functional.gelu(linear(f"decoder.layers.{level}.{3 * layer}", states))
        wanted = linear(f"heads.maps.{level}", states)
        torch.testing.assert_close(found[level], wanted, atol=1e-5, rtol=1e-5)
        token = codes[:, level] + offset
        read = torch.cat([read, weights["decoder.embedding.weight"][token]], dim=1)


def test_steps_are_the_whole_decoder(make_model):
    """Beams that follow others, at every position."""
    model = mlp_model(make_model, codebook_sizes=[4, 4, 4])
    inputs, follow = torch.randn(3, 6, 16), torch.tensor([2, 2, 0, 4, 3, 3])
    memory, mask = torch.randn(2, 1, 16), torch.ones(2, 1, dtype=torch.long)
    with torch.no_grad():
        steps = model.decoder.steps(memory, mask)
        found = []
        for position in range(3):
            found.append(steps.step(inputs[position]))
            if position == 1:
                steps.follow(follow)
                inputs[:2] = inputs[:2, follow]
                found = [hidden[follow] for hidden in found]
        whole = model.decoder(inputs.transpose(0, 1), memory, mask)
    torch.testing.assert_close(torch.stack(found, 1), whole, atol=1e-6, rtol=1e-6)


def test_a_search_is_one_graph(make_model):
    """torch.compile finds nothing in it where it would have to stop."""
    model = mlp_model(make_model, codebook_sizes=[4, 9, 4])
    model.set_index(torch.randint(0, 4, (40, 3)))
    states = torch.randn(2, 1, 16)
    found = EncoderOutput(states, states[:, 0], torch.ones(2, 1, dtype=torch.long))
    ours = beam_search(model, found, 5)
    whole = torch.compile(
        lambda encoded: beam_search(model, encoded, 5).codes, fullgraph=True, backend="eager"
    )
    assert torch.equal(whole(found), ours.codes)


def test_codebooks_cannot_be_its_inputs(make_model):
    """One sentence."""
    with pytest.raises(ValueError, match="decoder_type='mlp' needs decoder_inputs='tokens'"):
        mlp_model(make_model, head_type="codebook", decoder_inputs="codebooks")

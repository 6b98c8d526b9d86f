"""One position at a time gives what the decoder gives for all positions at once."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from hf_genret.modeling import decoder_genret as decoder
from hf_genret.modeling.decoder_genret import DecoderSteps


@pytest.mark.parametrize("rows", [3, decoder._FEW + 5])
@pytest.mark.parametrize("positions", [1, 2, 4])
def test_attention_to_earlier_positions(rows, positions):
    """transformers' and torch's attention of one query to a few keys, few rows or many."""
    query = torch.randn(rows, 12)
    past = [(torch.randn(rows, 12), torch.randn(rows, 12)) for _ in range(positions)]
    ours = decoder.attend(query, past, heads=3)

    def split(states):
        return torch.stack(states, 1).unflatten(-1, (3, 4)).transpose(1, 2)

    keys, values = split([key for key, _ in past]), split([value for _, value in past])
    theirs = functional.scaled_dot_product_attention(split([query]), keys, values)
    torch.testing.assert_close(ours, theirs.transpose(1, 2).flatten(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_steps_are_the_whole_decoder(make_model, memory, masked):
    """Beams that follow others, at every position; a memory of one vector or of several."""
    model = make_model(codebook_sizes=[4, 4, 4])
    queries, beams = 2, 3
    states = torch.randn(queries, memory, 16)
    mask = torch.ones(queries, memory, dtype=torch.long)
    if masked and memory > 1:
        mask[0, -1] = 0
    inputs = torch.randn(3, queries * beams, 16)
    follow = torch.tensor([2, 2, 0, 4, 3, 3])
    with torch.no_grad():
        steps = DecoderSteps(model.decoder, states, mask)
        found = []
        for position in range(3):
            found.append(steps.step(inputs[position]))
            if position == 1:
                steps.follow(follow)
                inputs[:2] = inputs[:2, follow]
                found = [hidden[follow] for hidden in found]
        whole = model.decoder(inputs.transpose(0, 1), states, mask)
    torch.testing.assert_close(torch.stack(found, 1), whole, atol=1e-5, rtol=1e-5)

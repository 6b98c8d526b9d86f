"""One position at a time gives what the decoder gives for all positions at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_genret.modeling.steps_genret import DecoderSteps, attend, direct


@pytest.mark.parametrize("positions", [1, 2, 4])
def test_attention_to_earlier_positions(positions):
    """torch's attention of one query to a few keys."""
    query, keys, values = torch.randn(1, 5, 12), *torch.randn(2, positions, 5, 12)
    ours = attend(query[0], keys, values, heads=3)

    def split(states):
        return states.unflatten(-1, (3, 4)).permute(1, 2, 0, 3)  # [rows, heads, positions, 4]

    theirs = functional.scaled_dot_product_attention(*map(split, (query, keys, values)))
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


def test_layers_of_another_kind_are_called():
    """An adapter around a layer, and a hook on one, are not passed over."""

    class Doubled(nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    states = torch.randn(2, 4)
    doubled, hooked, plain = Doubled(4, 4), nn.Linear(4, 4), nn.LayerNorm(4)
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    for layer in (doubled, hooked, plain, nn.Linear(4, 3, bias=False)):
        torch.testing.assert_close(direct(layer)(states), layer(states), atol=0, rtol=0)

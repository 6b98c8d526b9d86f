"""Our beam search against generate(), against itself without ids, and against its own products."""

from __future__ import annotations

import os

import pytest
import torch
from ids import KINDS
from timing import interleaved, medians, ratio

from hf_genret.modeling import EncoderOutput, GenRetConfig, GenRetModel, beam_search

COUNT = int(os.environ.get("BENCH_IDS", "1000000"))
SIZE, LEVELS, BEAMS = 256, 4, 20
MODELS = {"2 x 96": (2, 96, 4), "6 x 384": (6, 384, 6)}


def model_of(name, ids):
    """A decoder with random weights over ids."""
    layers, dim, heads = MODELS[name]
    torch.manual_seed(0)
    model = GenRetModel(
        GenRetConfig(
            query_encoder={"type": "bag", "vocab_size": 10, "dim": dim},
            vector_dim=dim,
            codebook_sizes=[SIZE] * LEVELS,
            decoder_dim=dim,
            decoder_layers=layers,
            decoder_heads=heads,
            head_type="plain",
            search_beams=BEAMS,
        )
    ).eval()
    model.set_index(ids)
    return model


def encoded(batch, dim, memory):
    """What an encoder would emit: so many vectors a query."""
    make = torch.Generator().manual_seed(batch)
    states = torch.randn(batch, memory, dim, generator=make)
    return EncoderOutput(states, states.mean(1), torch.ones(batch, memory, dtype=torch.long))


def products(model, batch, memory):
    """The matrix products of a search alone, in the shapes that it has."""
    dim = model.config.decoder_dim

    def run():
        for level in range(LEVELS):
            states = torch.empty(batch * (BEAMS if level else 1), dim)
            for block in model.decoder.blocks:
                attention = block.self_attention
                for linear in (attention.query, attention.key)[: 2 if level else 0]:
                    linear(states)
                attention.output(attention.value(states))
                if memory > 1:
                    block.cross_attention.output(block.cross_attention.query(states))
                block.feed_forward[2](block.feed_forward[0](states))
            model.heads.maps[level](states)

    return run


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_against_generate(name, batch, record, goals):
    """The same ids, with 8 vectors to attend to; and the products of the loop alone."""
    count = min(COUNT, 100_000)
    model = model_of(name, KINDS["random"](count, SIZE))
    found = encoded(batch, model.config.decoder_dim, 8)
    settings = {"num_beams": BEAMS, "num_return_sequences": BEAMS}

    def generate():
        return model.generate(encoder_outputs=found, **settings)

    def plain():
        return without_ids(model, found, settings)

    ours = beam_search(model, found, BEAMS)
    theirs = generate().view(batch, BEAMS, -1)[..., 1:]
    assert torch.equal(theirs - torch.tensor(model.config.level_offsets), ours.codes)
    times = interleaved(
        {
            "loop": lambda: beam_search(model, found, BEAMS),
            "generate": generate,
            "plain generate": plain,
            "products": products(model, batch, 8),
        },
        rounds=7,
    )
    faster, least = ratio(times, "generate", "loop"), {"2 x 96": (3.5, 2.3), "6 x 384": (1.6, 1.6)}
    goals.add(
        f"loop, times faster than generate() with the same ids, {name}, batch {batch}",
        *(least[name][batch > 1], faster, "transformers' generate() with our processor"),
        least=True,
    )
    goals.add(
        f"generate() with our processor, {name}, batch {batch}",
        *(1.15, ratio(times, "generate", "plain generate"), "plain generate()"),
    )
    if batch > 1:
        goals.add(
            f"loop, {name}, batch {batch}",
            *(2.0 if name == "2 x 96" else 1.25, ratio(times, "loop", "products")),
            "its own matrix products",
        )
    record(f"loop_{name.replace(' ', '')}_{batch}", {"milliseconds": medians(times)})


def without_ids(model, found, settings):
    """transformers' own generate(), nothing constrained."""
    from transformers import GenerationMixin, LogitsProcessorList

    start = torch.zeros(len(found.pooler_output), 1, dtype=torch.long)
    own = type(model)._get_logits_processor
    type(model)._get_logits_processor = lambda self, *a, **k: LogitsProcessorList()
    try:
        return GenerationMixin.generate(
            model,
            encoder_outputs=EncoderOutput(**found),
            decoder_input_ids=start,
            max_new_tokens=LEVELS,
            **settings,
        )
    finally:
        type(model)._get_logits_processor = own


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_against_a_search_without_ids(kind, record, goals):
    """End to end over a million ids: what the constraint costs."""
    figures = {}
    for name in MODELS:
        model = model_of(name, KINDS[kind](COUNT, SIZE))
        for batch in (1, 32):
            found = encoded(batch, model.config.decoder_dim, 8)
            times = interleaved(
                {
                    "constrained": lambda m=model, f=found: beam_search(m, f, BEAMS),
                    "free": lambda m=model, f=found: beam_search(m, f, BEAMS, constrained=False),
                },
                rounds=9,
            )
            figures[f"{name}, batch {batch}"] = medians(times)
            goals.add(
                f"constrained search, {COUNT:,} {kind} ids, {name}, batch {batch}",
                *(1.08 if kind == "zipf" else 1.05, ratio(times, "constrained", "free")),
                "the same search unconstrained",
            )
    record(f"constrained_{kind}", {"ids": COUNT, "milliseconds": figures})

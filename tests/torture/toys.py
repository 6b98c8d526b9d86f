"""Small checkpoints to torture, and a table of what came of it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from hf_genret.data.schema import Documents
from hf_genret.demo.tiny import tiny_retriever

COLOURS = ("red", "blue", "green", "black", "white", "grey", "pink")
ANIMALS = ("fox", "owl", "cat", "hen", "dog", "eel", "bee", "ant")
PLACES = ("hill", "roof", "lake", "road", "barn")
QUERIES = [f"{colour} {animal}" for colour in COLOURS[:4] for animal in ANIMALS[:4]]


def corpus(size, start=0):
    """Documents whose words say what they are; `start` makes another corpus of the same size."""
    names = [
        f"{COLOURS[i % 7]} {ANIMALS[i // 7 % 8]} {PLACES[i // 56 % 5]} {i}"
        for i in range(start, start + size)
    ]
    count = range(start, start + size)
    return Documents(
        [f"d{i}" for i in count],
        [f"{name.split()[1]} {i}" for i, name in zip(count, names, strict=True)],
        names,
        {"place": [name.split()[2] for name in names]},
    )


def retriever(size=60, start=0, seed=0, sizes=(6, 6)):
    """An untrained retriever that finds documents by their words."""
    return tiny_retriever(corpus(size, start), codebook_sizes=list(sizes), dim=64, seed=seed)


def answers(one, queries=QUERIES, k=5):
    """What a retriever says to all queries, as plain values."""
    return [
        [(h.id, h.score, h.docid, h.document["text"]) for h in one.search(q, k)] for q in queries
    ]


def save_both(folder: Path, size=60):
    """Two checkpoints of the same sizes that differ in weights, ids, vectors and documents."""
    for name, start, seed in (("one", 0, 0), ("other", 1000, 1)):
        retriever(size, start, seed).save_pretrained(folder / name, extra_manifest={"seed": seed})
    return folder / "one", folder / "other"


def arguments(**defaults):
    """The command line of a torture: every number by its name."""
    parser = argparse.ArgumentParser()
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser.parse_args()


def finish(title, counts: Counter, bad=()):
    """Print the counts; the status is 1 where something bad was counted."""
    print(f"{title}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    sys.exit(int(any(counts[name] for name in bad)))

"""Readers beside a process that saves two checkpoints in turn: each opens one of them, whole.

    python tests/torture/mixtures.py --loads 2000

Read are weights, ids, vectors, documents, card and manifest, by `GenRetriever` and by transformers'
`AutoModel`; the writer never pauses.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import toys
from transformers import AutoModel

import hf_genret.modeling  # noqa: F401  (registers the classes)
from hf_genret.errors import CheckpointError
from hf_genret.retriever import GenRetriever


def digest(model, documents=(), facts=None):
    """A checksum of all that a checkpoint is."""
    sha = hashlib.sha256(repr((list(documents), facts, model.config.beam_weight)).encode())
    for name, value in sorted(model.state_dict().items()):
        sha.update(name.encode() + value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    sha.update(model.vectors.contiguous().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def whole(folder):
    """Everything by `GenRetriever`, answers included."""
    one = GenRetriever.from_pretrained(folder, device="cpu")
    time.sleep(0.002)  # what is opened late would be opened after the next save
    texts = [document["text"] for document in one.documents]
    return digest(one.model, texts, (dict(one.facts), sorted(one.state.records.items())))


def model_alone(folder):
    """The model by transformers."""
    return digest(AutoModel.from_pretrained(folder))


READERS = {"GenRetriever": whole, "AutoModel": model_alone}


def mixtures(loads=20, readers=tuple(READERS)):
    """Load again and again beside the writer; gives counts."""
    torch.set_num_threads(1)
    counts = Counter(whole=0, refused=0, mixtures=0, errors=0)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="genret-mixtures-") as name:
        sources, target = toys.save_both(Path(name)), Path(name) / "out"
        GenRetriever.from_pretrained(sources[0]).save_pretrained(target)
        right = {}
        for reader in readers:
            right[reader] = set()
            for source in sources:
                GenRetriever.from_pretrained(source, device="cpu").save_pretrained(target)
                right[reader].add(READERS[reader](target))
            assert len(right[reader]) == 2
        stop = context.Event()
        writer = context.Process(target=_write, args=(sources, target, stop), daemon=True)
        writer.start()
        inode = target.stat().st_ino
        while target.stat().st_ino == inode and writer.is_alive():  # until it saves
            time.sleep(0.05)
        messages = set()
        for number in range(loads):
            reader = readers[number % len(readers)]
            try:
                said = READERS[reader](target)
            except (CheckpointError, ValueError) as error:
                counts["refused"] += 1
                messages.add(f"{reader}: {error}"[:300])
            except Exception as error:
                counts["errors"] += 1
                messages.add(f"{reader}: {type(error).__name__}: {error}"[:300])
            else:
                counts["whole" if said in right[reader] else "mixtures"] += 1
        counts["errors"] += not writer.is_alive()
        stop.set()
        writer.join(60)
    return counts, sorted(messages)


def _write(sources, target, stop):
    """The writer's process."""
    torch.set_num_threads(1)
    both = [GenRetriever.from_pretrained(source, device="cpu") for source in sources]
    turn = 0
    while not stop.is_set():
        both[turn % 2].save_pretrained(target)
        turn += 1


if __name__ == "__main__":
    chosen = toys.arguments(loads=2000)
    counts, messages = mixtures(chosen.loads)
    print("\n".join(messages[:10]))
    toys.finish(f"{chosen.loads:,} loads", counts, bad=("mixtures", "errors"))

"""A crowd of threads on one retriever: every answer is that of one thread alone.

    python tests/torture/storm.py --seconds 600 --threads 32 --documents 70000

Each round opens the checkpoint anew, so that first uses meet. Threads search (one query and
several, with ids, functions and `num_beams`), explain, iterate and read documents, while others
save and, in every second round, replace the index by another corpus and back, and compress it.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import toys

from hf_genret.errors import DataError
from hf_genret.retriever import GenRetriever


def even(document):
    """A filter that reads each document."""
    return int(document["id"][1:]) % 2 == 0


def plain(hits):
    """Hits as values that can be compared."""
    return tuple((hit.id, round(hit.score, 5), hit.docid, hit.document["text"]) for hit in hits)


def words(explanation):
    """An explanation as values that can be compared."""
    return explanation.id, explanation.docid, round(explanation.score, 4), explanation.rank


def read(documents):
    """Some documents of one store, by their rows."""
    return tuple(documents[row]["text"] for row in range(0, len(documents), 97))


SOME = [f"d{number}" for number in range(0, 60, 7)]
OPERATIONS = {
    "search": lambda r, q: plain(r.search(q, k=5)),
    "beams": lambda r, q: plain(r.search(q, k=5, num_beams=3)),
    "ids": lambda r, q: plain(r.search(q, k=3, only=SOME)),
    "function": lambda r, q: plain(r.search(q, k=5, only=even)),
    "several": lambda r, q: tuple(map(plain, r.search([q, "cat", q], k=3))),
    "explain": lambda r, q: words(r.explain(q, "d14")),
    "iterate": lambda r, q: hash(tuple(document["text"] for document in r.documents)),
    "read": lambda r, q: read(r.documents),
}


def ask(name, retriever, query):
    """What an operation says; a document that another corpus lacks is an answer too."""
    try:
        return OPERATIONS[name](retriever, query)
    except DataError as error:
        return str(error)


def expected(retriever, queries):
    """What each operation says when nobody else is there."""
    return {(name, query): ask(name, retriever, query) for name in OPERATIONS for query in queries}


class Round:
    """One retriever in a crowd.

    Args:
        folder: The checkpoint.
        right: For each state that the index may be in, what operations say.
        heavy: How seldom operations that read the whole corpus come.
    """

    def __init__(self, folder, right, heavy):
        self.folder, self.right, self.heavy = folder, right, heavy
        self.retriever = GenRetriever.from_pretrained(folder, device="cpu")
        self.counts: Counter = Counter()
        self.errors: list[str] = []
        self.end = threading.Event()

    def crowd(self, threads, seconds, others):
        """Run all threads for some seconds."""
        work = [threading.Thread(target=self._ask, args=(i,)) for i in range(threads)]
        work += [threading.Thread(target=self._guard, args=(other,)) for other in others]
        for one in work:
            one.start()
        self.end.wait(seconds)
        self.end.set()
        for one in work:
            one.join(300)
        self.counts["hangs"] += sum(one.is_alive() for one in work)

    def _guard(self, other):
        while not self.end.is_set():
            try:
                other(self.retriever)
            except Exception as error:
                self._fail(f"{other.__name__}: {type(error).__name__}: {error}")
            time.sleep(0.01)

    def _ask(self, seed):
        draw = random.Random(seed)
        asked = list(self.right[0])
        weights = [
            1 if name in ("function", "iterate", "read") else self.heavy for name, _ in asked
        ]
        while not self.end.is_set():
            ((name, query),) = draw.choices(asked, weights)
            try:
                said = ask(name, self.retriever, query)
            except Exception as error:
                self._fail(f"{name}: {type(error).__name__}: {error}")
                continue
            self.counts["answers"] += 1
            if not any(said == right[name, query] for right in self.right):
                self._fail(f"{name} {query!r}: another answer than alone: {said!r}"[:400])

    def _fail(self, message):
        self.counts["errors"] += 1
        self.errors.append(message)
        self.end.set()


def storm(threads=8, seconds=3.0, documents=300, rounds=2, seed=0):
    """Rounds of a crowd; gives counts and what went wrong."""
    torch.set_num_threads(1)
    queries = toys.QUERIES[seed : seed + 3]
    counts, errors = Counter(answers=0, errors=0, hangs=0), []
    with tempfile.TemporaryDirectory(prefix="genret-storm-") as name:
        folder, copy = Path(name) / "out", Path(name) / "copy"
        toys.retriever(documents).save_pretrained(folder)
        alone = GenRetriever.from_pretrained(folder, device="cpu")
        first = expected(alone, queries)
        other = toys.corpus(documents, 50_000)
        alone.index(other)
        second = expected(alone, queries)

        def save(one):
            one.save_pretrained(copy)

        def compress(one):
            one.compress_vectors("float32")

        def replace(one):
            one.index(other)
            one.index(toys.corpus(documents))

        for number in range(rounds):
            changes = number % 2 == 1 and documents <= 5000
            right = [first, second] if changes else [first]
            if changes:  # the first corpus comes back with ids that the model gives anew
                one = GenRetriever.from_pretrained(folder, device="cpu")
                one.index(toys.corpus(documents))
                right.append(expected(one, queries))
            crowd = Round(folder, right, max(1, documents // 300))
            crowd.crowd(threads, seconds / rounds, [save, replace, compress] if changes else [save])
            counts.update(crowd.counts)
            errors += crowd.errors
    return counts, errors


if __name__ == "__main__":
    chosen = toys.arguments(threads=32, seconds=60.0, documents=70_000, rounds=4, seed=0)
    counts, errors = storm(**vars(chosen))
    print("\n".join(errors[:10]))
    toys.finish(f"{chosen.threads} threads", counts, bad=("errors", "hangs"))

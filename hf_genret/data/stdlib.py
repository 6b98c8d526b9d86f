"""The built-in set: find the standard library's documentation by its own first sentences."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Sequence

from tqdm.auto import tqdm

from hf_genret.data import docstrings
from hf_genret.data.docstrings import Entry
from hf_genret.data.fingerprint import fingerprint
from hf_genret.data.holdout import MIN_QUERY_WORDS, MIN_REST_WORDS, hold_out_sentences
from hf_genret.data.schema import Documents, RetrievalData
from hf_genret.errors import ConfigError, DataError

#: Data of this name is gathered here; `stdlib:asyncio,email` is that of some modules alone.
NAME = "stdlib"
#: Test and dev queries held out of a part of the library.
PART_QUERIES = (100, 60)


def is_stdlib(source: object) -> bool:
    """Whether a source means the built-in set: `stdlib` or `stdlib:MODULE,MODULE`."""
    return isinstance(source, str) and source.partition(":")[0] == NAME


def named_stdlib(source: str) -> RetrievalData:
    """The built-in set by its name, with the queries of seed 0.

    Args:
        source: `stdlib`, or `stdlib:MODULE,MODULE` for some top-level modules.

    Raises:
        ConfigError: When the modules hold too few documents for the queries.
        DataError: When no such module has documentation.
    """
    modules = [name.strip() for name in source.partition(":")[2].split(",") if name.strip()]
    if not modules:
        return stdlib_data()
    test, dev = PART_QUERIES
    data = stdlib_data(test_queries=test, dev_queries=dev, modules=modules)
    data.notes.insert(0, f"Modules: {', '.join(modules)}.")
    return data


def _gather_apart(modules: Sequence[str]) -> list[Entry]:
    """Entries gathered by a fresh interpreter (-I -S: nothing but the standard library)."""
    command = [sys.executable, "-I", "-S", docstrings.__file__, *modules]
    entries = []
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process,
        tqdm(desc="standard library", unit=" modules", delay=2, leave=False) as bar,
    ):
        assert process.stdout is not None  # it is a pipe
        for line in process.stdout:
            record = json.loads(line)
            if "imported" in record:
                bar.update()
            else:
                entries.append(Entry(**record))
    if process.returncode != 0 or not entries:
        raise DataError(
            "the standard library's documentation could not be gathered: "
            f"{sys.executable} ended with status {process.returncode} and {len(entries)} texts."
        )
    return entries


def as_documents(entries: Sequence[Entry]) -> Documents:
    """Entries as a corpus: id and title are the qualified name, the text is the docstring."""
    return Documents(
        ids=[entry.name for entry in entries],
        titles=[entry.name for entry in entries],
        texts=[entry.text for entry in entries],
        extra={
            "kind": [entry.kind for entry in entries],
            "module": [entry.module for entry in entries],
            "signature": [entry.signature for entry in entries],
        },
    )


def _with_signatures(documents: Documents) -> Documents:
    """The signature, where there is one, as the first line of each text."""
    pairs = zip(documents.extra["signature"], documents.texts, strict=True)
    texts = [f"{signature}\n{text}".strip() for signature, text in pairs]
    return Documents(documents.ids, documents.titles, texts, documents.extra)


def _notes(documents: int) -> list[str]:
    return [
        f"{documents} docstrings of public classes, functions, methods and properties of Python "
        f"{platform.python_version()}'s standard library; equal texts are kept once.",
        "Queries are first sentences, removed from their documents; a document was chosen only if "
        f"{MIN_REST_WORDS} words stay, and a sentence only if it has {MIN_QUERY_WORDS} words, "
        "stands nowhere else in the corpus, and neither writes out the document's title nor "
        "calls it by its name.",
        "Titles (qualified names) and signatures (parameter names) stay in the documents and may "
        "share words with a query.",
        "No training queries: pseudo-queries are made from what is left of the documents.",
    ]


def stdlib_data(
    *,
    seed: int = 0,
    test_queries: int = 400,
    dev_queries: int = 300,
    modules: Sequence[str] | None = None,
) -> RetrievalData:
    """Documentation of the running Python's standard library, with held-out queries.

    Args:
        seed: Of the choice of queries.
        test_queries: Queries of the split `test`; 0 leaves the split out.
        dev_queries: Queries of the split `dev`; 0 leaves the split out.
        modules: Top-level modules to gather from; all public ones by default.

    Raises:
        ConfigError: When fewer documents qualify for queries than were asked for, or a number is
            negative.
        DataError: When a fresh interpreter cannot gather them.
    """
    if min(seed, test_queries, dev_queries) < 0:
        raise ConfigError(
            "seed, test_queries and dev_queries have to be 0 or more, "
            f"found {seed}, {test_queries} and {dev_queries}."
        )
    sizes = {name: n for name, n in (("test", test_queries), ("dev", dev_queries)) if n}
    gathered = as_documents(_gather_apart(modules or []))
    held, splits = hold_out_sentences(gathered, sizes, seed=seed)
    documents = _with_signatures(held)
    return RetrievalData(
        name="stdlib",
        fingerprint=fingerprint(documents, splits),
        documents=documents,
        splits=splits,
        notes=_notes(len(documents)),
    )

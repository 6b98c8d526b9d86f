"""The Space: the page of one checkpoint, or of a tiny one that is made when the Space starts.

Which checkpoint: the variable GENRET_CHECKPOINT (a repository or a folder), else the first line of
checkpoint.txt beside this file, else none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import hf_genret  # noqa: F401
except ImportError:  # a source checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    import gradio

    from hf_genret.retriever import GenRetriever

HERE = Path(__file__).resolve().parent
# The tiny checkpoint is made of the documentation of these modules of the Python that runs.
MODULES = [
    *("bisect", "calendar", "collections", "copy", "csv", "datetime", "difflib", "fnmatch"),
    *("functools", "glob", "hashlib", "heapq", "html", "itertools", "json", "math", "os"),
    *("pathlib", "pprint", "random", "re", "secrets", "shutil", "statistics", "string"),
    *("subprocess", "tempfile", "textwrap", "threading", "time", "urllib", "zipfile"),
]
EXAMPLES = [
    "join path components",
    "copy a whole folder",
    "choose a random element",
    "parse a JSON text",
    "the time as a string",
]


def checkpoint_name() -> str:
    """The repository or folder that this Space shows; empty for the tiny one."""
    name = os.environ.get("GENRET_CHECKPOINT", "").strip()
    file = HERE / "checkpoint.txt"
    if not name and file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        name = lines[0].strip() if lines else ""
    return name


def tiny() -> GenRetriever:
    """A retriever over a part of the standard library's documentation, made without training."""
    from hf_genret.data.stdlib import stdlib_data
    from hf_genret.demo import tiny_retriever

    documents = stdlib_data(test_queries=0, dev_queries=0, modules=MODULES).documents
    return tiny_retriever(documents, codebook_sizes=[16, 16], dim=256)


def load_retriever() -> GenRetriever:
    """The checkpoint that is named, or a tiny one."""
    from hf_genret.retriever import GenRetriever

    name = checkpoint_name()
    return GenRetriever.from_pretrained(name) if name else tiny()


def build() -> gradio.Blocks:
    """The page."""
    from hf_genret.demo import build_demo

    if checkpoint_name():
        return build_demo(load_retriever())
    title = "Generative retrieval, untrained example"
    return build_demo(load_retriever(), title=title, examples=EXAMPLES)


if __name__ == "__main__":
    from hf_genret.demo import serve

    serve(build())

"""The Space: a search page over the checkpoint that GENRET_CHECKPOINT names, or over a tiny one."""

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

TEXTS = {
    "os.path.join": "Join one or more path components, inserting a slash where one is needed.",
    "os.path.split": "Split a path into the folder and the last component.",
    "pathlib.Path.read_text": "Open a file in text mode, read it, and close the file.",
    "shutil.copytree": "Copy a whole folder and everything below it.",
    "json.loads": "Parse a JSON text into Python objects.",
    "json.dumps": "Write a Python object as a JSON text.",
    "csv.reader": "Read the rows of a comma separated file as lists of text.",
    "sorted": "A new sorted list from the items of an iterable.",
    "random.choice": "Choose a random element from a sequence that is not empty.",
    "random.shuffle": "Shuffle a list in place.",
    "datetime.strftime": "Format a date and time as text.",
    "time.perf_counter": "A clock for measuring short durations.",
    "re.sub": "Replace every match of a regular expression in a text.",
    "hashlib.sha256": "The SHA-256 checksum of some bytes.",
    "urllib.request.urlopen": "Open a web address and read the answer.",
    "concurrent.futures.ThreadPoolExecutor": "Run calls in a pool of threads.",
}


def load_retriever() -> GenRetriever:
    """The checkpoint of GENRET_CHECKPOINT (a folder or a repository), or a tiny one."""
    from hf_genret.data.schema import Documents
    from hf_genret.demo import tiny_retriever
    from hf_genret.retriever import GenRetriever

    name = os.environ.get("GENRET_CHECKPOINT", "").strip()
    if name:
        return GenRetriever.from_pretrained(name)
    titles = list(TEXTS)
    return tiny_retriever(Documents(titles, titles, list(TEXTS.values())))


def build() -> gradio.Blocks:
    """The page."""
    from hf_genret.demo import build_demo

    return build_demo(load_retriever())


if __name__ == "__main__":
    build().launch()

"""Small data folders, written by each test the way a user would have them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

DOCUMENTS = [
    {"_id": "d1", "title": "Apples", "text": "Apples grow on trees.", "topic": "fruit"},
    {"_id": "d2", "title": "", "text": "Bread is baked.", "tags": ["food", "oven"]},
    {"_id": "d3", "title": "Cars", "text": "", "year": 1999},
]
QUERIES = [
    {"_id": "q1", "text": "where do apples grow"},
    {"_id": "q2", "text": "how is bread made"},
    {"_id": "q3", "text": "fast cars"},
]
HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def write() -> Callable[[Path, object], Path]:
    """Writes text, bytes or a list of records (jsonl) to a path; .gz is packed."""

    def _write(path: Path, content: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(
                (one if isinstance(one, str) else json.dumps(one)) + "\n" for one in content
            )
        raw = content if isinstance(content, bytes) else str(content).encode()
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
        return path

    return _write


@pytest.fixture
def beir(tmp_path: Path, write) -> Path:
    """A BEIR folder of three documents and three queries."""
    folder = tmp_path / "toy"
    write(folder / "corpus.jsonl", DOCUMENTS)
    write(folder / "queries.jsonl", QUERIES)
    write(folder / "qrels" / "train.tsv", HEADER + "q1\td1\t1\nq1\td2\t2\n")
    write(folder / "qrels" / "test.tsv", HEADER + "q2\td2\t1\nq3\td3\t0\n")
    return folder


@pytest.fixture
def shop(tmp_path: Path, write) -> Path:
    """Six items and three users with 5, 3 and 2 items."""
    folder = tmp_path / "shop"
    items = [
        {
            "item_id": f"i{n}",
            "title": f"Item {n}",
            "text": f"text {n}",
            "categories": ["A", f"B{n}"],
        }
        for n in range(6)
    ]
    write(folder / "items.jsonl", items)
    sequences = "user_id\titem_ids\nann\ti0 i1 i2 i3 i4\nbob\ti5 i4 i3\ncid\ti1 i0\n"
    write(folder / "sequences.tsv", sequences)
    return folder

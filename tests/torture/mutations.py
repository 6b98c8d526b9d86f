"""Ways to spoil a file: bytes, JSON and YAML trees, tensors of a safetensors file."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3.5, -0.5, 1e-3, 10**6, 10**9, 10**12, 2**63, 10**30,
    float("nan"), float("inf"), "", "x", "1", "null", "../..", [], [1], ["a"], [None], [[]], {},
    {"a": 1}, [10**9, 10**9], [-1, -1], [0], "é" * 50,
]  # fmt: skip
"""Values that are of the wrong type or size for almost everything."""
_WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
_KINDS = {8: ["F64", "I64"], 4: ["F32", "I32"], 2: ["F16", "BF16", "I16"], 1: ["U8", "I8", "BOOL"]}
_WHOLE = {"I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"}

Mutation = Callable[[Path, Random], str]


def spoil(folder: Path, rng: Random, *, spare: tuple[str, ...] = ()) -> str:
    """Change one or two files of a folder.

    Args:
        folder: Changed in place.
        rng: What is chosen.
        spare: Endings of names that stay as they are.

    Returns:
        What was done.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if not path.name.endswith(spare)] if spare else files
    said = []
    for path in rng.sample(files, min(len(files), rng.choice([1, 1, 1, 2]))):
        way = rng.choice([*BYTES, *BY_ENDING.get(path.suffix, BYTES) * 3])
        said.append(f"{path.relative_to(folder)}: {way(path, rng)}")
    return "; ".join(said)


# ---- bytes ------------------------------------------------------------------------------------


def truncate(path: Path, rng: Random) -> str:
    data = path.read_bytes()
    kept = rng.randrange(len(data) + 1)
    path.write_bytes(data[:kept])
    return f"only {kept} of {len(data)} bytes"


def empty(path: Path, rng: Random) -> str:
    del rng
    path.write_bytes(b"")
    return "empty"


def flip(path: Path, rng: Random) -> str:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 4, 64]) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    return "flipped bits"


def blank(path: Path, rng: Random) -> str:
    data = bytearray(path.read_bytes())
    first = rng.randrange(len(data) + 1)
    last = min(len(data), first + rng.choice([8, 512, 10**9]))
    data[first:last] = bytes(last - first)
    path.write_bytes(bytes(data))
    return f"zeros from {first} to {last}"


def append(path: Path, rng: Random) -> str:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice([1, 100])))
    return "bytes appended"


def noise(path: Path, rng: Random) -> str:
    path.write_bytes(rng.randbytes(rng.choice([1, 7, 8, 100, 10_000])))
    return "noise"


def remove(path: Path, rng: Random) -> str:
    del rng
    path.unlink()
    return "gone"


def folder_instead(path: Path, rng: Random) -> str:
    del rng
    path.unlink()
    path.mkdir()
    return "a folder"


def other_file(path: Path, rng: Random) -> str:
    others = [other for other in sorted(path.parent.iterdir()) if other.is_file()]
    other = rng.choice(others)
    if other != path:
        shutil.copyfile(other, path)
    return f"the content of {other.name}"


# ---- trees ------------------------------------------------------------------------------------


def spoil_tree(tree: Any, rng: Random) -> str:
    """Change one place of a tree of lists and dictionaries."""
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else list(range(min(len(node), 20)))
        places += [(node, key) for key in keys]
        waiting += [node[key] for key in keys if isinstance(node[key], (dict, list))]
    if not places:
        return "nothing to change"
    node, key = rng.choice(places)
    way = rng.randrange(6)
    if way == 0:
        del node[key]
        return f"without {key!r}"
    if way == 1 and isinstance(node, dict):
        node[f"{key}_"] = node.pop(key)
        return f"{key!r} renamed"
    other, there = rng.choice(places)
    if way == 2 and there in (other if isinstance(other, dict) else range(len(other))):
        node[key] = json.loads(json.dumps(other[there], default=str))
        return f"{key!r} has the value of {there!r}"
    if way == 3 and isinstance(node[key], (int, float)):
        node[key] = rng.choice([-1, 2, 1000, 10**9]) * node[key] + rng.choice([0, 1])
        return f"{key!r} is {node[key]}"
    node[key] = rng.choice(ODD)
    return f"{key!r} is {str(node[key])[:40]}"


def json_tree(path: Path, rng: Random) -> str:
    try:
        tree = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return flip(path, rng)
    if rng.randrange(12) == 0 or not isinstance(tree, (dict, list)):
        said = rng.choice(["[]", "null", "3", '"x"', "{}", "[" * 100_000, "[[1]]", "9" * 5000])
        path.write_text(said)
        return f"the file says {said[:20]}"
    said = spoil_tree(tree, rng)
    path.write_text(json.dumps(tree))
    return said


def yaml_tree(path: Path, rng: Random) -> str:
    tree = yaml.safe_load(path.read_text())
    said = " and ".join(spoil_tree(tree, rng) for _ in range(rng.choice([1, 1, 2])))
    path.write_text(yaml.safe_dump(tree))
    return said


# ---- tensors ----------------------------------------------------------------------------------


def tensors(path: Path, rng: Random) -> str:
    """Write the file anew with one tensor, or what the file says of itself, changed."""
    header, body = _parts(path)
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return flip(path, rng)
    name = rng.choice(names)
    whole = [n for n in names if header[n]["dtype"] in _WHOLE]
    name = rng.choice(whole) if whole and rng.randrange(2) else name
    way = rng.choice([_rename, _drop, _reshape, _retype, _values, _values, _values, _about, _cut])
    said = way(header, body, name, rng)
    _write(path, header, body)
    return f"{name}: {said}"


def _parts(path: Path) -> tuple[dict[str, Any], dict[str, bytearray]]:
    data = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        rest = data[8 + length :]
        body = {
            name: bytearray(rest[entry["data_offsets"][0] : entry["data_offsets"][1]])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, MemoryError):
        return {}, {}
    return header, body


def _write(path: Path, header: dict[str, Any], body: dict[str, bytearray]) -> None:
    place, out = 0, {}
    for name, entry in header.items():
        if name == "__metadata__":
            out[name] = entry
            continue
        out[name] = {**entry, "data_offsets": [place, place + len(body[name])]}
        place += len(body[name])
    text = json.dumps(out).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(body[n] for n in body))


def _rename(header: Any, body: Any, name: str, rng: Random) -> str:
    del rng
    header[name + "_"], body[name + "_"] = header.pop(name), body.pop(name)
    return "renamed"


def _drop(header: Any, body: Any, name: str, rng: Random) -> str:
    del rng
    del header[name], body[name]
    return "gone"


def _reshape(header: Any, body: Any, name: str, rng: Random) -> str:
    del body
    shape, count = header[name]["shape"], 1
    for axis in shape:
        count *= axis
    header[name]["shape"] = rng.choice(
        [shape[::-1], [count], [1, count], [count, 1], [*shape, 1], [10**9, 10**9], [*shape, 2]]
    )
    return f"shape {header[name]['shape']}"


def _retype(header: Any, body: Any, name: str, rng: Random) -> str:
    del body
    width = _WIDTHS.get(header[name]["dtype"], 1)
    header[name]["dtype"] = rng.choice(_KINDS[width])
    return f"type {header[name]['dtype']}"


def _values(header: Any, body: Any, name: str, rng: Random) -> str:
    kind, data = header[name]["dtype"], body[name]
    if not data:
        return "nothing to change"
    if kind not in _WHOLE:
        width = _WIDTHS.get(kind, 1)
        at = rng.randrange(len(data) // width) * width
        data[at : at + width] = rng.choice([b"\xff" * width, bytes(width), rng.randbytes(width)])
        return "another number"
    width = struct.calcsize(_WHOLE[kind])
    low, high = (0, 255) if kind == "U8" else (-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1)
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.randrange(len(data) // width) * width
        value = rng.choice([low, high, 0, 1, 2, 7, high // 2, rng.randint(low, high)])
        data[at : at + width] = struct.pack(_WHOLE[kind], value)
    return f"a number is {value}"


def _cut(header: Any, body: Any, name: str, rng: Random) -> str:
    """Fewer or more rows, said by the header too."""
    shape = header[name]["shape"]
    if not shape or not shape[0]:
        return "nothing to change"
    row = len(body[name]) // shape[0]
    rows = rng.choice([0, 1, shape[0] - 1, shape[0] + 1])
    more = (body[name] * 2)[: rows * row] if rows <= 2 * shape[0] else body[name]
    body[name], header[name]["shape"] = more, [rows, *shape[1:]]
    return f"{rows} rows"


def _about(header: Any, body: Any, name: str, rng: Random) -> str:
    del body, name
    about = header.get("__metadata__") or {}
    if not about or rng.randrange(3) == 0:
        header.pop("__metadata__", None)
        return "says nothing of itself"
    about[rng.choice(sorted(about))] = rng.choice(["", "x", "-1", "nan", "1e99"])
    return "says something else of itself"


BYTES: list[Mutation] = [
    truncate, empty, flip, blank, append, noise, remove, folder_instead, other_file,
]  # fmt: skip
BY_ENDING: dict[str, list[Mutation]] = {
    ".json": [json_tree, json_tree, json_tree],
    ".yaml": [yaml_tree, yaml_tree, yaml_tree],
    ".safetensors": [tensors, tensors, tensors],
}

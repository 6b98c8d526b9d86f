"""What a later push changes in a repository, and what it leaves there."""

from __future__ import annotations

import hashlib
import json

import pytest

FIRST = """
retriever.save_pretrained("out")
first = GenRetriever.from_pretrained("out")
print("FIRST", first.push_to_hub("me/again").rpartition("/")[2])
print("SAME", first.push_to_hub("me/again").rpartition("/")[2])
first.compress_vectors("int8")
print("SECOND", first.push_to_hub("me/again").rpartition("/")[2])
"""
PINNED = """
one = GenRetriever.from_pretrained("me/again", revision="{first}")
two = GenRetriever.from_pretrained("me/again")
same(one)
assert one.model.vector_bytes > 3 * two.model.vector_bytes
from hf_genret.modeling import GenRetModel
model = GenRetModel.from_pretrained("me/again", revision="{first}")
assert model.vector_bytes == one.model.vector_bytes
"""


@pytest.fixture(scope="module")
def pushed(hub, program):
    """The commits of three pushes, by the first word of their line."""
    return dict(line.split() for line in program(FIRST))


def changes(hub, repo):
    """Names that each commit of a repository carried."""
    pairs = zip(hub.uploads, hub.changed, strict=True)
    return [names for (name, _, _), names in pairs if name == repo]


def test_a_second_push_uploads_what_changed(hub, pushed):
    """Nothing where nothing did, which is no commit; else the changed files, the manifest, and the
    configuration, which says whose vectors they are."""
    whole, part = changes(hub, "me/again")
    assert {"model.safetensors", "documents.parquet", "config.json"} < whole
    assert part == {"vectors.safetensors", "manifest.json", "config.json"}
    assert pushed["SAME"] == pushed["FIRST"] != pushed["SECOND"]
    assert len(hub.stored) == len(set(hub.stored)) == 4  # weights, documents, vectors twice


def test_a_revision_is_pinned(program, pushed):
    """An older commit is the older checkpoint, its vectors included."""
    program(PINNED.format(first=pushed["FIRST"]))


def test_a_card_written_on_the_hub_stays(hub, program, pushed):
    """A generated card replaces a generated one alone; one in the folder that was edited wins."""
    hub.add_commit("me/again", "main", {**hub.files("me/again"), "README.md": b"Mine."})
    program(
        'GenRetriever.from_pretrained("out").push_to_hub("me/again")\n'
        "from pathlib import Path\n"
        'Path("out/README.md").write_text("Edited.")\n'
        'GenRetriever.from_pretrained("out").push_to_hub("me/edited")\n'
        'GenRetriever.from_pretrained("out").push_to_hub("me/edited", commit_message="2")\n'
    )
    assert hub.files("me/again")["README.md"] == b"Mine."
    assert "README.md" not in changes(hub, "me/again")[-1]
    assert hub.files("me/edited")["README.md"] == b"Edited."


def test_files_of_an_older_checkpoint_go(hub, program, pushed):
    """Those that its manifest lists and the new one has not; what else lies there stays."""
    shard, name = b"old weights", "model-00001-of-00002.safetensors"
    manifest = {"files": {name: {"size": 11, "sha256": hashlib.sha256(shard).hexdigest()}}}
    files = {name: shard, "manifest.json": json.dumps(manifest).encode(), "notes.txt": b"kept"}
    hub.repos["me/older"] = {"private": False, "refs": {}}
    hub.add_commit("me/older", "main", files)
    program('retriever.push_to_hub("me/older")\n')
    assert name not in hub.files("me/older") and hub.files("me/older")["notes.txt"] == b"kept"
    assert len(changes(hub, "me/older")) == 1


def test_a_dropped_connection_is_tried_again(hub, program):
    """At the start, in a file and in the commit: still one commit, with everything."""
    hub.dropped += [r"POST /api/repos/create", r"PUT /lfs/", r"POST /api/models/me/shaky/commit"]
    program(
        'retriever.compress_vectors("float16")\n'  # a file that the Hub has not yet
        'retriever.push_to_hub("me/shaky")\n'
        'same(GenRetriever.from_pretrained("me/shaky"))\n'
    )
    assert not hub.dropped and len(changes(hub, "me/shaky")) == 1


def test_a_private_repository_needs_a_token(program):
    """With another's it is a sentence, with the owner's it loads."""
    source = (
        'retriever.push_to_hub("me/hidden", private=True, token="hf_dummy")\n'
        'error(lambda: GenRetriever.from_pretrained("me/hidden", token="hf_another"))\n'
        'same(GenRetriever.from_pretrained("me/hidden", token="hf_dummy"))\n'
    )
    (line,) = program(source)
    assert line.startswith("ERROR me/hidden: neither a folder here nor a repository of the Hub")

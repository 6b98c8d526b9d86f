"""What stands in a place is somebody's: it goes where that was said, and nothing else goes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from hf_genret import files, swap
from hf_genret.cli.main import main
from hf_genret.errors import CheckpointError
from hf_genret.files import atomic_file, atomic_folder, atomic_write_text
from hf_genret.outputs import check_output, check_results
from hf_genret.retriever import GenRetriever


@pytest.fixture
def folder(retriever, tmp_path):
    """A saved checkpoint that says how it was trained."""
    extras = tmp_path / "extras"
    extras.mkdir()
    (extras / "training.json").write_text('{"method": "uri"}')
    retriever.save_pretrained(tmp_path / "out", beside=extras)
    return tmp_path / "out"


@pytest.fixture
def documents(tmp_path):
    """A file of other documents."""
    records = [{"id": f"x{i}", "text": f"grey bee {i}"} for i in range(5)]
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_other_peoples_weights_and_cards_stay(retriever, tmp_path):
    """A folder of somebody's files keeps every one, also when it is saved there twice."""
    box = tmp_path / "box"
    box.mkdir()
    names = ("my-encoder.safetensors", "x.safetensors.index.json", "README.md", "report.json")
    for name in names:
        (box / name).write_text(f"my {name}")
    (box / "empty").mkdir()
    for _ in range(2):
        retriever.save_pretrained(box)
        retriever.index([{"id": "x", "text": "another corpus"}])
    for name in names:
        assert (box / name).read_text() == f"my {name}"
    assert (box / "empty").is_dir()
    assert len(GenRetriever.from_pretrained(box).documents) == 1


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', "{}", "no JSON"])
def test_the_folder_of_another_model_is_refused(retriever, tmp_path, config):
    """Whatever its config.json says; nothing in it changes."""
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=r"encoder holds .*, which stays; name another"):
        retriever.save_pretrained(tmp_path / "encoder")
    assert os.listdir(tmp_path / "encoder") == ["config.json"]
    assert (tmp_path / "encoder" / "config.json").read_text() == config


def test_a_file_of_the_same_name_is_refused(retriever, tmp_path):
    """Weights of no checkpoint are nobody's to replace."""
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "model.safetensors").write_text("mine")
    with pytest.raises(CheckpointError, match=r"box/model.safetensors belongs to no checkpoint"):
        retriever.save_pretrained(tmp_path / "box")
    assert (tmp_path / "box" / "model.safetensors").read_text() == "mine"
    assert os.listdir(tmp_path) == ["box"]


def test_a_save_of_transformers_alone_is_replaced(retriever, tmp_path):
    """It has no manifest, and its config.json says that it is ours."""
    retriever.model.save_pretrained(tmp_path / "out")
    retriever.save_pretrained(tmp_path / "out")
    assert len(GenRetriever.from_pretrained(tmp_path / "out").documents) == 40


def test_a_file_that_comes_in_the_last_moment_stays(retriever, folder, monkeypatch):
    """Between what is kept and the exchange."""
    real = files.exchange

    def exchange(one, other):
        (other / "late.txt").write_text("mine")
        return real(one, other)

    monkeypatch.setattr(files, "exchange", exchange)
    retriever.save_pretrained(folder)
    assert (folder / "late.txt").read_text() == "mine"


STANDING = r"out holds a checkpoint \(method uri, 40 documents, saved \d{4}-\d\d-\d\d \d\d:\d\d\)"


@pytest.mark.parametrize(
    "words",
    [
        "index OUT DOCS --output OUT",
        "index OUT DOCS --output OUT --streaming",
        "train DOCS --recipe fixed --output OUT",
        "quickstart --output OUT",
    ],
)
def test_commands_ask_before_they_replace_a_checkpoint(folder, documents, capsys, words):
    """The sentence says what stands there and how to replace it; nothing has changed."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    words = words.replace("OUT", str(folder)).replace("DOCS", str(documents)).split()
    assert main(words) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert re.search(STANDING, shown) and "--overwrite replaces it" in shown
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_with_overwrite_it_is_replaced(folder, documents, capsys):
    """What was said is done."""
    words = ["index", str(folder), str(documents), "--output", str(folder), "--overwrite"]
    assert main(words) == 0
    assert len(GenRetriever.from_pretrained(folder).documents) == 5
    check_output(folder, overwrite=True)
    with pytest.raises(CheckpointError, match=r"\(5 documents, saved"):
        check_output(folder, overwrite=False)
    capsys.readouterr()


def test_results_on_other_data_are_not_replaced(tmp_path):
    """Of a comparison or a study; on the same data it goes on."""
    check_results(tmp_path, "abc", overwrite=False)
    report = {"data": {"name": "shop", "fingerprint": "abc", "documents": 3000}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    check_results(tmp_path, "abc", overwrite=False)
    check_results(tmp_path, "xyz", overwrite=True)
    with pytest.raises(CheckpointError, match=r"results on other data \(shop, 3000 documents"):
        check_results(tmp_path, "xyz", overwrite=False)


# ---- temporary folders --------------------------------------------------------------------------


def crowd(path: Path):
    """What lies beside a path."""
    return sorted(one.name for one in path.parent.iterdir())


def write(path):
    """A file, a text and a folder of one name in turn would clash; here it is the folder."""
    with atomic_folder(path) as fresh:
        (fresh / "a").write_text("new")


def test_what_a_dead_process_left_goes_with_the_next_write(tmp_path):
    """Temporary folders of this place, and of no other; one in use stays."""
    for name in (".out.new-0a0a0a0a", ".out.old-0b0b0b0b", ".other.new-0c0c0c0c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("x")
    (tmp_path / ".out.new-0d0d0d0d").mkdir()
    held = swap.lock(tmp_path / ".out.new-0d0d0d0d")
    write(tmp_path / "out")
    assert crowd(tmp_path / "out") == [".other.new-0c0c0c0c", ".out.new-0d0d0d0d", "out"]
    held.close()
    atomic_write_text(tmp_path / "other", "text")
    write(tmp_path / "out")
    assert crowd(tmp_path / "out") == ["other", "out"]


def test_a_folder_between_two_names_comes_back(tmp_path):
    """A process that died between two renames, on a disk that cannot exchange folders."""
    gone = tmp_path / ".out.old-0a0a0a0a" / "folder"
    gone.mkdir(parents=True)
    (gone / "a").write_text("old")
    files.recover(tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "old"
    write(tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "new" and crowd(tmp_path / "out") == ["out"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_failed_exchange_leaves_the_old_folder(tmp_path, monkeypatch, exchanges):
    """Whatever the disk refuses."""
    write(tmp_path / "out")
    (tmp_path / "out" / "a").write_text("old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "exchange", refuse if exchanges else lambda *_: False)
    if not exchanges:
        real = os.replace
        monkeypatch.setattr(
            "hf_genret.files.os.replace",
            lambda a, b: (
                refuse() if Path(b) == tmp_path / "out" and ".new-" in str(a) else real(a, b)
            ),
        )
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "out")
    monkeypatch.undo()
    assert (tmp_path / "out" / "a").read_text() == "old" and crowd(tmp_path / "out") == ["out"]


def test_readers_in_a_folder_are_waited_for(tmp_path, monkeypatch):
    """Who has opened the old folder reads it to its end; then it goes with the next write."""
    monkeypatch.setattr(swap, "_PATIENCE", 0.05)
    write(tmp_path / "out")
    (tmp_path / "out" / "a").write_text("old")
    with swap._by_descriptor(tmp_path / "out") as still:
        write(tmp_path / "out")
        assert (still / "a").read_text() == "old"
        assert (tmp_path / "out" / "a").read_text() == "new"
    write(tmp_path / "out")
    assert crowd(tmp_path / "out") == ["out"]


def test_a_written_file_is_readable_by_whom_the_umask_lets(tmp_path):
    """Also a text, and one that a library made for its owner alone."""
    before = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "text", "x")
        with atomic_file(tmp_path / "file") as fresh:
            fresh.touch(mode=0o600)
    finally:
        os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("text", "file")} == {0o640}


def test_a_place_in_brackets_and_a_link(tmp_path):
    """Names with signs of their own; a link to a folder stays a link."""
    write(tmp_path / "out[1]*")
    write(tmp_path / "out[1]*")
    (tmp_path / "link").symlink_to(tmp_path / "out[1]*")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and crowd(tmp_path / "x") == ["link", "out[1]*"]


def test_scratch_folders_of_the_dead_go(tmp_path, monkeypatch):
    """Not those in use, not those that were just made, and not other people's names."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("genret-corpus-dead", "genret-corpus-new", "other-corpus-dead"):
        (tmp_path / name).mkdir()
    used = files.ScratchFolder("corpus")
    for path in (tmp_path / "genret-corpus-dead", tmp_path / "other-corpus-dead", used.path):
        os.utime(path, (0, 0))
    with files.ScratchFolder("corpus") as folder:
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"genret-corpus-new", "other-corpus-dead", used.path.name, folder.name}
    used.close()
    assert not used.path.exists() and not folder.exists()

"""Commands that write, killed at any moment: nothing is lost, the next one leaves nothing behind.

    python tests/torture/kills.py --kills 200

Commands are killed at random moments. A save over another checkpoint is killed before each of its
operations on files in turn as well, with and without a system that exchanges folders. Both run in
forked children, since starting Python would take most of the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import toys

import hf_genret.files
import hf_genret.training
from hf_genret.cli.main import main
from hf_genret.errors import GenRetError
from hf_genret.retriever import GenRetriever

COMMANDS = {
    "index": "index base docs.jsonl --output out --overwrite",
    "evaluate": "evaluate base data --systems generative,random --json report.json",
    "card": "card out --language en --force",
    "export": "export out --ids ids.jsonl --run queries.jsonl out.run --k 5",
}
_ON_FILES = ("os.", "open", "shutil.", "ctypes.call")  # Python tells of them before they happen
WRITES = {"index": "out", "evaluate": "report.json", "card": "out/README.md", "export": "out.run"}


def prepare(folder):
    """Checkpoints, data, and somebody's own file in the folder that is written to."""
    toys.retriever().save_pretrained(folder / "base")
    toys.retriever(40, 300).save_pretrained(folder / "out")
    (folder / "out" / "notes.txt").write_text("mine")
    other, same = toys.corpus(50, 1000), toys.corpus(60)
    _jsonl(folder / "docs.jsonl", other)
    (folder / "data" / "qrels").mkdir(parents=True)
    _jsonl(folder / "data" / "corpus.jsonl", same)
    queries = [{"_id": f"q{i}", "text": query} for i, query in enumerate(toys.QUERIES)]
    lines = "".join(json.dumps(query) + "\n" for query in queries)
    for place in (folder / "queries.jsonl", folder / "data" / "queries.jsonl"):
        place.write_text(lines)
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(len(queries)))
    (folder / "data" / "qrels" / "test.tsv").write_text(judged)


def _jsonl(path, documents):
    rows = zip(documents.ids, documents.titles, documents.texts, strict=True)
    records = [{"_id": name, "title": title, "text": text} for name, title, text in rows]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def run(folder, words, kill_after=None):
    """A command in a child; gives its status, -9 where it was killed, and its seconds."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        with contextlib.suppress(BaseException), Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
            os._exit(main(words))
        os._exit(99)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, time.monotonic() - began


def leftovers(folder):
    """Temporary files and folders that are still there."""
    return [str(one.relative_to(folder)) for one in folder.rglob(".*")]


def state(folder):
    """Which corpus a checkpoint answers from; loading it is part of the question."""
    one = GenRetriever.from_pretrained(folder / "out", device="cpu")
    one.search(toys.QUERIES[0])
    return one.documents.ids[0], len(one.documents)


def kills(number=8, commands=tuple(COMMANDS), seed=0):
    """Kill each command in turn; gives counts and what went wrong."""
    torch.set_num_threads(1)
    draw, counts = random.Random(seed), Counter(killed=0, finished=0, losses=0, leftovers=0)
    messages = []
    with tempfile.TemporaryDirectory(prefix="genret-kills-") as name:
        fresh, seconds = Path(name) / "fresh", {}
        fresh.mkdir()
        prepare(fresh)
        for command in commands:
            trial = shutil.copytree(fresh, Path(name) / "trial")
            status, seconds[command] = run(trial, COMMANDS[command].split())
            assert status == 0, (command, status)
            right = _result(trial, command)
            shutil.rmtree(trial)
            seconds[command, "right"] = right
        for turn in range(number):
            command = commands[turn % len(commands)]
            folder = shutil.copytree(fresh, Path(name) / f"turn-{turn}")
            words = COMMANDS[command].split()
            status, _ = run(folder, words, draw.uniform(0.3, 1.05) * seconds[command])
            counts["killed" if status == -signal.SIGKILL else "finished"] += 1
            wrong = _lost(folder)
            if wrong:
                counts["losses"] += 1
                messages.append(f"{command}: {wrong}")
            status, _ = run(folder, words)
            if status or _result(folder, command) != seconds[command, "right"] or _lost(folder):
                counts["losses"] += 1
                messages.append(f"{command}: the next one ended with status {status}")
            if left := leftovers(folder):
                counts["leftovers"] += 1
                messages.append(f"{command}: {left}")
            shutil.rmtree(folder)
    return counts, messages


def kills_of_a_save(step=1, first=0, exchanges=True):
    """Kill a save before its n-th operation on files, for n = first, first + step ..."""
    torch.set_num_threads(1)
    counts, messages = Counter(killed=0, losses=0, leftovers=0), []
    with tempfile.TemporaryDirectory(prefix="genret-save-") as name:
        fresh, turn = Path(name) / "fresh", first
        fresh.mkdir()
        prepare(fresh)
        one = toys.retriever(50, 1000)
        while True:
            folder = shutil.copytree(fresh, Path(name) / f"turn-{turn}")
            killed = _save_killed(one, folder / "out", turn, exchanges)
            counts["killed"] += killed
            if wrong := _lost(folder):
                counts["losses"] += 1
                messages.append(f"at operation {turn}: {wrong}")
            one.save_pretrained(folder / "out")
            if state(folder) != ("d1000", 50) or _lost(folder):
                counts["losses"] += 1
                messages.append(f"at operation {turn}: the next save gave {state(folder)}")
            if left := leftovers(folder):
                counts["leftovers"] += 1
                messages.append(f"at operation {turn}: {left}")
            shutil.rmtree(folder)
            if not killed:
                return counts, messages
            turn += step


def _save_killed(one, out, operation, exchanges):
    """Save in a child that is killed before an operation; False where it came to its end."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event, arguments):
            nonlocal seen
            if event.startswith(_ON_FILES) and event != "os.kill":
                seen += 1
                if seen > operation:
                    os.kill(os.getpid(), signal.SIGKILL)

        if not exchanges:
            hf_genret.files.exchange = lambda one, other: False
        try:
            sys.addaudithook(hook)
            one.save_pretrained(out)
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(99)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def _lost(folder):
    """What is gone or half there, None where nothing is."""
    try:  # first: opening brings back a folder that is between two names
        if state(folder) not in (("d300", 40), ("d1000", 50)):
            return "another corpus"
    except GenRetError as error:
        return str(error)
    notes = folder / "out" / "notes.txt"
    if not notes.is_file() or notes.read_text() != "mine":
        return "somebody's file is gone"
    return None


def _result(folder, command):
    """What a command wrote, without the seconds it took."""
    written = folder / WRITES[command]
    if command == "index":
        return state(folder)
    if command == "evaluate":
        systems = json.loads(written.read_text())["systems"]
        return {name: entry["metrics"] for name, entry in systems.items()}
    return written.read_text()


if __name__ == "__main__":
    chosen = toys.arguments(kills=200, seed=0)
    counts, messages = kills(chosen.kills, seed=chosen.seed)
    print(f"commands: {dict(counts)}")
    for exchanges in (True, False):
        more, said = kills_of_a_save(exchanges=exchanges)
        print(f"a save, {'exchanging folders' if exchanges else 'by two renames'}: {dict(more)}")
        counts, messages = counts + more, messages + said
    print("\n".join(messages[:10]))
    toys.finish("kills", counts, bad=("losses", "leftovers"))

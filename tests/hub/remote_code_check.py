"""Checkpoints opened with transformers alone, in fresh environments: `make remote-code-check`.

Small checkpoints are made with this package. Then, for each version of transformers, an environment
is made that holds torch and transformers and nothing else; a process in it opens the checkpoints by
their remote code, generates and searches, and its answers are compared with the package's. Last,
the environment gets the package's dependencies too, and the package's answers on that version of
transformers have to be those of the remote code to the last bit.

Needs the network, about 1 GB of disk a version while it runs, and a few minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # this checkout, whatever is installed
VERSIONS = ("transformers==5.0.*", "transformers>=5.0,<6")
TOLERANCE = 1e-4
QUERIES = ["red fox on the hill", "a blue owl", "green roof"]

ANSWER = """
import sys

folder, out, queries = sys.argv[1], sys.argv[2], sys.argv[4:]
if sys.argv[3] == "alone":
    import importlib.util
    assert importlib.util.find_spec("hf_genret") is None, "the package is installed"
    options = {"trust_remote_code": True}
else:
    import hf_genret.modeling
    options = {}

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

torch.set_num_threads(1)
config = AutoConfig.from_pretrained(folder, **options)
tokenizer = AutoTokenizer.from_pretrained(folder, **options)
tokens = tokenizer(queries, padding=True, return_tensors="pt")
tokens = {name: tokens[name] for name in ("input_ids", "attention_mask")}
found = {"input_ids": tokens["input_ids"], "sizes": torch.tensor(config.codebook_sizes)}
for auto in (AutoModel, AutoModelForSeq2SeqLM):
    model = auto.from_pretrained(folder, **options).eval()
    module = type(model).__module__
    assert module.startswith("transformers_modules." if options else "hf_genret."), module
    written = model.generate(
        **tokens, num_beams=6, num_return_sequences=6, output_scores=True,
        return_dict_in_generate=True,
    )
    hits = model.search(**tokens, k=5)
    name = auto.__name__
    found |= {
        f"{name} ids": written.sequences, f"{name} id scores": written.sequences_scores,
        f"{name} rows": hits.rows, f"{name} scores": hits.scores,
    }
save_file({name: value.contiguous() for name, value in found.items()}, out)
print(transformers.__version__)
"""


def make_checkpoints(folder: Path) -> list[Path]:
    """Two checkpoints: an encoder of ours (a bag of subwords), and a transformers encoder."""
    from transformers import BertConfig, BertModel

    from hf_genret.data.schema import Documents
    from hf_genret.demo.tiny import tiny_retriever
    from hf_genret.encoding import ItemSource, pooled_vectors
    from hf_genret.modeling import GenRetConfig, GenRetModel
    from hf_genret.retriever import GenRetriever

    texts = [
        f"{colour} {animal} on the {place}"
        for colour in ("red", "blue", "green", "grey")
        for animal in ("fox", "owl", "cat")
        for place in ("hill", "roof")
    ]
    corpus = Documents([f"d{i}" for i in range(len(texts))], [""] * len(texts), texts)
    bag = tiny_retriever(corpus)
    words = bag.processing_class
    assert words is not None
    backbone = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    config = GenRetConfig(
        query_encoder={
            "type": "text",
            "backbone": {**backbone.to_diff_dict(), "model_type": "bert"},
            "memory": "tokens",
        },
        vector_dim=32,
        codebook_sizes=[4, 6],
        decoder_dim=32,
        beam_weight=0.1,
        search_beams=8,
    )
    torch.manual_seed(0)
    model = GenRetModel(config).eval()
    model.encoder.query.backbone = BertModel(backbone).eval()
    vectors = pooled_vectors(model, ItemSource(model, corpus, words))
    codes = torch.tensor([[row % 4, row // 4 % 6] for row in range(len(texts))])
    model.set_index(codes, vectors=vectors)
    bert = GenRetriever(model, words, corpus)
    folders = [folder / "bag", folder / "bert"]
    for retriever, place in zip((bag, bert), folders, strict=True):
        retriever.save_pretrained(place)
    return folders


def answers(python: Path, folder: Path, out: Path, how: str) -> tuple[str, dict[str, torch.Tensor]]:
    """The version of transformers and what a fresh process finds in a checkpoint."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME") and not name.startswith("HF_")
    }
    environment |= {"HF_HOME": str(out.parent / f"home-{out.stem}"), "HF_HUB_OFFLINE": "1"}
    if how == "package":
        environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [str(python), "-c", ANSWER, str(folder), str(out), how, *QUERIES],
        cwd=out.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{folder.name}, {how}, {python}:\n{done.stdout}{done.stderr}")
    return done.stdout.split()[-1], load_file(out)


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two scores; ids and rows have to be the same.

    Raises:
        AssertionError: When they are not.
    """
    assert one.keys() == other.keys()
    largest = 0.0
    for name, value in one.items():
        if value.is_floating_point():
            largest = max(largest, float((value - other[name]).abs().max()))
        else:
            assert torch.equal(value, other[name]), f"{name} differ: {value} and {other[name]}"
    return largest


def environment(folder: Path, torch_pin: str, transformers: str, torch_args: list[str]) -> Path:
    """The Python of a fresh environment; torch comes first and alone."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install(python, torch_pin, *torch_args)
    install(python, transformers)
    return python


def install(python: Path, *packages: str) -> None:
    """pip, without a word unless it fails."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", *packages]
    subprocess.run(command, check=True)


def check(transformers: str, folders: list[Path], work: Path, torch_args: list[str]) -> None:
    """One version of transformers: alone, then with the package beside it.

    Raises:
        AssertionError: When an answer differs.
    """
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(r"^torch==\S+", pins, flags=re.MULTILINE)
    assert found is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with tempfile.TemporaryDirectory(dir=work) as place:
        python = environment(Path(place) / "venv", found[0], transformers, torch_args)
        alone = [
            answers(python, folder, Path(place) / f"{folder.name}.alone", "alone")
            for folder in folders
        ]
        install(python, *project["dependencies"], transformers)
        for folder, (version, there) in zip(folders, alone, strict=True):
            _, here = answers(
                Path(sys.executable), folder, Path(place) / f"{folder.name}.here", "package"
            )
            largest = difference(there, here)
            assert largest <= TOLERANCE, f"{folder.name}: scores differ by {largest:.1e}"
            again, beside = answers(
                python, folder, Path(place) / f"{folder.name}.beside", "package"
            )
            assert again == version, f"transformers {version} became {again}"
            exact = difference(there, beside)
            assert exact == 0, f"{folder.name}: package and remote code differ by {exact:.1e}"
            print(
                f"transformers {version}, {folder.name}: without the package the same ids and "
                f"rows, scores within {largest:.1e}; bit for bit the package on {version}",
                flush=True,
            )


def main() -> None:
    """Make the checkpoints, then check each version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-args", default="", help="extra pip arguments for torch alone")
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="what pip installs")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genret-remote-code-") as place:
        work = Path(place)
        folders = make_checkpoints(work)
        for transformers in wish.versions:
            print(f"{transformers}: a fresh environment", flush=True)
            check(transformers, folders, work, shlex.split(wish.torch_args))


if __name__ == "__main__":
    main()

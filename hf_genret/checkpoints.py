"""Checkpoint folders: found here or on the Hub, checked, loaded, written whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hf_genret import outputs
from hf_genret.data.schema import Documents
from hf_genret.documents import DocumentStore
from hf_genret.errors import CheckpointError
from hf_genret.files import atomic_folder, recover
from hf_genret.manifest import (
    FIGURES,
    FOR_TRAINING,
    TRAINING_FILE,
    write_manifest,
)
from hf_genret.modeling import GenRetModel
from hf_genret.outputs import keep_others
from hf_genret.sizes import check_sizes

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever

VECTORS_FILE = "vectors.safetensors"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def locate(name_or_path: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a checkpoint; a repository of the Hub is downloaded first.

    Args:
        name_or_path: A folder, or `owner/name` on the Hub where no such folder exists.
        revision: Branch, tag or commit of the repository.
        token: For private repositories.

    Raises:
        CheckpointError: When there is neither, or what is there is no checkpoint of this package.
    """
    path = Path(name_or_path).expanduser()
    recover(path)
    if path.is_dir():
        check_config(path)
        return path
    if path.exists():
        raise CheckpointError(f"{name_or_path}: expected a checkpoint folder, found a file.")
    if not _HUB_NAME.fullmatch(str(name_or_path)):
        raise CheckpointError(f"{name_or_path}: expected a checkpoint folder, found nothing there.")
    return _download(str(name_or_path), revision, token)


def _download(name: str, revision: str | None, token: str | None) -> Path:
    """A repository's files in the local cache."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        # The small file first: another model's weights are not worth a download.
        config = hf_hub_download(name, "config.json", revision=revision, token=token)
        check_config(Path(config).parent, name)
        folder = snapshot_download(
            name, revision=revision, token=token, ignore_patterns=[*FOR_TRAINING, "checkpoint-*/*"]
        )
    except EntryNotFoundError as error:
        if isinstance(error, FileNotFoundError):  # not in the cache, and the Hub is out of reach
            raise CheckpointError(_not_found(name, error)) from error
        raise CheckpointError(f"{name}: expected a checkpoint, found no config.json.") from error
    except hub_errors() as error:
        raise CheckpointError(_not_found(name, error)) from error
    return Path(folder)


def hub_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: its own errors and those of the HTTP library below it."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # Which HTTP library it is depends on the client's version; its errors are the bases.
    return (*HfHubHTTPError.__bases__, HFValidationError, OSError)


def _not_found(name: str, error: Exception) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{name}: neither a folder here nor a repository of the Hub that can be read ({reason})"


def check_config(folder: Path, name: str | None = None) -> None:
    """Refuse a folder that holds no generative retriever.

    Args:
        folder: Where config.json should be.
        name: What the error names; the folder by default.

    Raises:
        CheckpointError: No config.json, not JSON, or of another kind of model.
    """
    name = name or str(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{name}: expected a checkpoint, found no config.json.")
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{name}: config.json is not a JSON object ({error}).") from error
    if kind != "genret":
        message = f"expected model_type 'genret' in config.json, found {kind!r}."
        raise CheckpointError(f"{name}: {message}")


def load_model(folder: Path, dtype: torch.dtype | str | None, device: str | None) -> GenRetModel:
    """Weights and index, every one of them from the folder.

    Raises:
        CheckpointError: Damaged files, sizes that disagree, weights that are missing.
    """
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    check_sizes(folder)
    try:
        model, info = GenRetModel.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True, **options
        )
    except SafetensorError as error:
        message = f"the weights cannot be read, a file is truncated or damaged ({error})."
        raise CheckpointError(f"{folder}: {message}") from error
    except Exception as error:  # whatever settings of other types make transformers raise
        message = f"the configuration and the weights do not fit ({_in_one_line(error)})"
        raise CheckpointError(f"{folder}: {message}") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            first = min(map(str, info[kind]))
            message = f"{kind.replace('_', ' ')} in the weights, the first is {first}."
            raise CheckpointError(f"{folder}: {message}")
    if len(model.index) and not model.has_vectors:
        raise CheckpointError(f"{folder}: expected {VECTORS_FILE}, found no such file.")
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.eval()
    loaded: GenRetModel = model
    return loaded


def _in_one_line(error: Exception) -> str:
    """What transformers says about sizes that disagree, without its table."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search("mismatch|size|shape", line, re.IGNORECASE)]
    return (telling or lines or [type(error).__name__])[0][:300]


def load_tokenizer(folder: Path, model: GenRetModel) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder, None for a model that reads no text.

    Raises:
        CheckpointError: When the model reads text and there is none, or it cannot be read.
    """
    sides = (model.encoder.query, model.encoder.item_side)
    if not any(getattr(side, "inputs", None) == "text" for side in sides):
        return None
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise CheckpointError(f"{folder}: expected tokenizer.json, found no such file.")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder))
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({error}).") from error
    return tokenizer


def load_documents(folder: Path, model: GenRetModel) -> DocumentStore:
    """The document store of a folder, as many documents as the index has.

    Raises:
        CheckpointError: Missing, damaged, or of another size than the index.
    """
    expected = model.config.num_documents
    if not expected:
        return DocumentStore.from_documents(Documents([], [], []))
    documents = DocumentStore.load(folder)
    if len(documents) != expected:
        raise CheckpointError(
            f"{folder}: the id index has {expected:,} documents, the document store "
            f"{len(documents):,}."
        )
    return documents


def write_files(
    fresh: Path,
    retriever: GenRetriever,
    *,
    report: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
    beside: str | Path | None = None,
) -> None:
    """Fill an empty folder with a checkpoint; the manifest comes last.

    Args:
        fresh: The folder.
        retriever: What is saved; card, report and the record of training of the folder it came
            from go with it.
        report: An evaluation report, for a card with its figures.
        repo_id: The repository that the card's examples name.
        beside: A folder whose content goes with it.
    """
    from hf_genret.hub.card import finish_card, write_card

    retriever.model.save_pretrained(fresh)
    if retriever.processing_class is not None:
        retriever.processing_class.save_pretrained(fresh)
    if len(retriever.documents):
        retriever.documents.save(fresh)
    if beside is not None:
        shutil.copytree(beside, fresh, dirs_exist_ok=True)
    if report is not None:
        write_card(fresh, retriever, report, repo_id=repo_id)
    else:
        for name in {*FIGURES, TRAINING_FILE} & retriever.state.records.keys():
            (fresh / name).write_bytes(retriever.state.records[name])
    if repo_id is not None:
        finish_card(fresh, retriever, repo_id)
    elif len(retriever.documents) and not (fresh / "README.md").is_file():
        write_card(fresh, retriever)
    facts = retriever.facts
    rest = {name: value for name, value in facts.items() if name not in ("seed", "data")}
    write_manifest(fresh, seed=facts.get("seed"), data=facts.get("data"), extra=rest)


def write_folder(
    folder: str | Path, write: Callable[[Path], None], source: Path | None = None
) -> Path:
    """Put a checkpoint in the place of a folder, whole or not at all.

    Of what stood there only files go that its manifest names, or that the new checkpoint has too;
    what was measured of it stays when it is saved where it was loaded from.

    Args:
        folder: Where the checkpoint goes.
        write: Fills the empty folder it is given.
        source: Where this very checkpoint was loaded from.

    Returns:
        The folder as an absolute path.

    Raises:
        CheckpointError: When it cannot be written, or would replace what is no checkpoint of this
            package; what stood there is then untouched.
    """
    path = outputs.check_place(folder)
    try:
        with atomic_folder(path, partial(keep_others, same=path == source)) as fresh:
            write(fresh)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"the checkpoint could not be saved ({reason}); what was there is untouched."
        raise CheckpointError(f"{folder}: {message}") from error
    return path

"""A checkpoint on the Hub: saved whole, a card beside it, one commit with what changed."""

from __future__ import annotations

import glob
import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hf_genret import checkpoints
from hf_genret.errors import CheckpointError
from hf_genret.files import ScratchFolder
from hf_genret.manifest import FOR_TRAINING, MANIFEST_FILE, read_manifest, sha256

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from hf_genret.retriever import GenRetriever

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
CARD = "README.md"
_PAUSES = (1.0, 4.0)  # seconds before the second and the third try


def push(
    retriever: GenRetriever,
    repo_id: str,
    *,
    private: bool | None = None,
    commit_message: str | None = None,
    token: str | None = None,
    revision: str | None = None,
) -> str:
    """Upload a retriever; arguments as in `GenRetriever.push_to_hub`.

    Returns:
        Address of the commit; of the newest one where nothing has changed.

    Raises:
        CheckpointError: When the Hub or the disk refuses.
    """
    with ScratchFolder("push") as temporary:
        files = partial(checkpoints.write_files, retriever=retriever, repo_id=repo_id)
        folder = checkpoints.write_folder(temporary / "checkpoint", files)
        own = _card_was_written(retriever)
        return push_folder(
            folder,
            repo_id,
            private=private,
            commit_message=commit_message,
            token=token,
            revision=revision,
            own_card=own,
        )


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    commit_message: str | None = None,
    token: str | None = None,
    revision: str | None = None,
    own_card: bool | None = None,
) -> str:
    """Upload a checkpoint folder as it is, without what serves training alone.

    Files of the checkpoint that the repository held before, and that this one has not, go with the
    same commit. Others there stay.

    Args:
        folder: With a manifest.
        repo_id: `owner/name`; made where there is none.
        private: Whether a new repository is private.
        commit_message: Of the commit.
        token: One that may write.
        revision: Branch, made where needed; `main` by default.
        own_card: Whether README.md is the user's; by default, whether it is another than the
            manifest's. One that was generated does not replace a card that was written on the Hub.

    Returns:
        Address of the commit; of the newest one where nothing has changed.

    Raises:
        CheckpointError: When the Hub refuses.
    """
    from huggingface_hub import HfApi

    api, own = HfApi(token=token), _written(folder) if own_card is None else own_card
    with refusals(repo_id):
        name = retried(lambda: api.create_repo(repo_id, private=private, exist_ok=True).repo_id)
        if revision is not None:
            retried(lambda: api.create_branch(name, branch=revision, exist_ok=True))
        gone, written = _there(api, name, revision, folder)
        kept = [CARD] if written and not own else []
        if kept:
            logger.warning(
                "%s: its %s was written on the Hub and stays; one in the checkpoint folder would "
                "replace it.",
                name,
                CARD,
            )
        commit = _uploaded(
            partial(
                api.upload_folder,
                repo_id=name,
                folder_path=folder,
                commit_message=commit_message or "Upload a generative retriever",
                revision=revision,
                ignore_patterns=[*FOR_TRAINING, *kept],
                delete_patterns=[glob.escape(path) for path in gone] or None,
            )
        )
    return str(commit.commit_url)


def _listed(folder: Path) -> dict[str, Any]:
    """The files that a folder's manifest lists; none where it has no manifest of ours."""
    try:
        found: dict[str, Any] = (read_manifest(folder) or {"files": {}})["files"]
    except CheckpointError:
        return {}
    return found


def _written(folder: Path) -> bool:
    """Whether a folder's card is another than the one that was saved with the checkpoint."""
    card = folder / CARD
    return card.is_file() and sha256(card) != _listed(folder).get(CARD, {}).get("sha256")


def _card_was_written(retriever: GenRetriever) -> bool:
    """Whether a retriever's card is another than the one that was saved with its checkpoint."""
    card, listed = retriever.state.records.get(CARD), retriever.state.record(MANIFEST_FILE)
    entry = (listed.get("files") or {}).get(CARD) or {}
    return card is not None and hashlib.sha256(card).hexdigest() != entry.get("sha256")


def _there(api: HfApi, name: str, revision: str | None, folder: Path) -> tuple[list[str], bool]:
    """What an earlier push left in the repository.

    Returns:
        Files of the checkpoint there that the new one has not, and whether somebody wrote the card
        there.
    """
    with ScratchFolder("there") as there:
        for file in (CARD, MANIFEST_FILE):
            _download(api, name, revision, there, file)
        gone = [path for path in _listed(there) if path != CARD and not (folder / path).is_file()]
        return gone, _written(there)


def _download(api: HfApi, name: str, revision: str | None, folder: Path, file: str) -> None:
    """Fetch a small file of a repository where it has it."""
    from huggingface_hub.errors import EntryNotFoundError

    with suppress(EntryNotFoundError):
        retried(lambda: api.hf_hub_download(name, file, revision=revision, local_dir=folder))


def _uploaded(upload: Callable[[], Result]) -> Result:
    """An upload's result, without the client's doubt whether documents belong beside a model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="It seems that you are about to commit a data")
        return retried(upload)


@contextmanager
def refusals(repo_id: str) -> Iterator[None]:
    """What the Hub refuses, as one sentence.

    Raises:
        CheckpointError: In place of whatever its client raises.
    """
    try:
        yield
    except checkpoints.hub_errors() as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{repo_id}: the Hub refused the upload ({reason}).") from error


def retried(call: Callable[[], Result]) -> Result:
    """Call again after a dropped connection; what the Hub answers is final.

    Each call of an upload may be repeated: files that have arrived are not sent again, and a
    commit whose answer was lost is found to be there.
    """
    for pause in _PAUSES:
        try:
            return call()
        except checkpoints.hub_errors() as error:
            if not _dropped(error):
                raise
            logger.warning("The connection to the Hub was lost (%s); trying again.", error)
            time.sleep(pause)
    return call()


def _dropped(error: Exception) -> bool:
    """Whether no answer came: neither a refusal nor a wish to stay offline."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    answered = isinstance(error, (HfHubHTTPError, OfflineModeIsEnabled))
    return not answered and isinstance(error, (HfHubHTTPError.__bases__[0], ConnectionError))

"""A checkpoint on the Hub: saved whole, a card beside it, one commit."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hf_genret import checkpoints
from hf_genret.errors import CheckpointError
from hf_genret.manifest import FOR_TRAINING

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever


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
        Address of the commit.

    Raises:
        CheckpointError: When the Hub or the disk refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory(prefix="genret-push-") as temporary:
        files = partial(checkpoints.write_files, retriever=retriever, repo_id=repo_id)
        folder = checkpoints.write_folder(Path(temporary) / "checkpoint", files)
        try:
            name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None:
                api.create_branch(name, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name,
                folder_path=folder,
                commit_message=commit_message or "Upload a generative retriever",
                revision=revision,
                ignore_patterns=list(FOR_TRAINING),
            )
        except checkpoints.hub_errors() as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"{repo_id}: the Hub refused the upload ({reason}).") from error
    return str(commit.commit_url)

"""A Space on the Hub that searches a checkpoint on the Hub."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from hf_genret.files import ScratchFolder
from hf_genret.hub.push import CARD, refusals, retried

VARIABLE = "GENRET_CHECKPOINT"
"""What the app of the Space reads the repository's name from."""


def push_space(
    space_id: str,
    checkpoint: str,
    *,
    private: bool | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """Make or renew a Gradio Space that searches a checkpoint; one commit with what changed.

    Args:
        space_id: `owner/name` of the Space.
        checkpoint: `owner/name` of the checkpoint. For a private one the Space needs a secret
            `HF_TOKEN` that may read it; none is sent from here.
        private: Whether a new Space is private; the account's default by default.
        commit_message: Of the commit.
        token: One that may write.

    Returns:
        Address of the Space.

    Raises:
        CheckpointError: When the Hub refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with ScratchFolder("space") as folder, refusals(space_id):
        write_space(folder, space_id, checkpoint)
        made = retried(
            lambda: api.create_repo(
                space_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True
            )
        )
        # Before the files: the first build then knows what to search.
        retried(lambda: api.add_space_variable(made.repo_id, VARIABLE, checkpoint))
        retried(
            lambda: api.upload_folder(
                repo_id=made.repo_id,
                repo_type="space",
                folder_path=folder,
                commit_message=commit_message or f"Search {checkpoint}",
            )
        )
    return f"{api.endpoint}/spaces/{made.repo_id}"


def write_space(folder: Path, space_id: str, checkpoint: str) -> None:
    """Fill a folder with the files of a Space; its front matter names the checkpoint.

    Args:
        folder: An empty folder.
        space_id: `owner/name`; the name becomes the title.
        checkpoint: `owner/name` on the Hub.
    """
    from huggingface_hub import RepoCard

    _copy(files("hf_genret.spaces_app"), folder)
    card = RepoCard((folder / CARD).read_text(encoding="utf-8"))
    card.data["title"] = space_id.split("/")[-1]
    card.data["models"] = [checkpoint]
    (folder / CARD).write_text(str(card), encoding="utf-8")


def _copy(source: Traversable, target: Path) -> None:
    """What lies in a folder of the package, without what running it left there."""
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            (target / entry.name).write_bytes(entry.read_bytes())

"""`hf-genret push`: a checkpoint, and a Space that searches it, on the Hub."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output


def push(
    checkpoint: options.Checkpoint,
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="OWNER/NAME on the Hub; made where needed.")
    ],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public",
            help="Whether a new repository is private; as the account has it by default.",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="A branch, made where needed; main by default.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    space: Annotated[
        bool, typer.Option("--space", help="Also make a Space of the same name that searches it.")
    ] = False,
    json_file: options.Json = None,
) -> None:
    """Upload a checkpoint with its card, or a LoRA adapter: one commit, with what changed.

    Log in first (`hf auth login`), or set HF_TOKEN.

    **Examples**

    - `hf-genret push out me/my-genret --private`

    - `hf-genret push out me/my-genret --space`
    """
    from hf_genret import adapters, checkpoints
    from hf_genret.hub import push_folder, push_space
    from hf_genret.manifest import check_manifest
    from hf_genret.retriever import GenRetriever

    how: dict[str, Any] = {"private": private, "commit_message": message, "revision": revision}
    with output(json_file) as result:
        folder = checkpoints.locate(checkpoint)
        if adapters.is_adapter(folder):
            check_manifest(folder)
            commit = push_folder(folder, repository, **how)
        else:
            retriever = GenRetriever.from_pretrained(folder, device="cpu")
            commit = retriever.push_to_hub(repository, **how)
        facts: dict[str, Any] = {"repository": repository, "commit": commit}
        result.console.print(f"Checkpoint: {commit}", markup=False)
        if space:
            facts["space"] = push_space(repository, repository, private=private)
            result.console.print(f"Space: {facts['space']}", markup=False)
            if private:
                result.console.print(
                    "Give the Space a secret HF_TOKEN that may read the private checkpoint."
                )
        result.write(facts)

"""The demo as one call: the page of a retriever, and how it is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_genret.errors import MissingExtraError

if TYPE_CHECKING:
    import gradio

    from hf_genret.retriever import GenRetriever

TITLE = "Generative retrieval"


def build_demo(
    retriever: GenRetriever, *, title: str = TITLE, examples: Sequence[str] | int = 5
) -> gradio.Blocks:
    """A page that searches, says why each document was found, and shows the tree of ids.

    It writes nothing, takes no files, and limits what it accepts (`hf_genret.demo.limits`).
    Beside the page stand the endpoints `/search`, `/explain` and `/browse`.

    Args:
        retriever: What is searched; a model that reads histories takes ids separated by commas.
        title: Heading of the page.
        examples: Example queries, or how many are taken from the documents. The page opens with
            the first.

    Returns:
        The page; `.launch()` or `serve` shows it.

    Raises:
        MissingExtraError: When gradio is not installed.
        DataError: When the retriever has no documents.
    """
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("gradio", "demo", "the demo") from error
    from hf_genret.demo.page import Page

    return Page(retriever, title, examples).build()


def serve(demo: gradio.Blocks, **options: Any) -> tuple[Any, str, str]:
    """Launch a page: no errors' details in it, no uploads, no files of this machine.

    Args:
        demo: From `build_demo`.
        **options: Of gradio's `launch`, for example `server_port`.

    Returns:
        What gradio's `launch` returns; the second is the local address.
    """
    settings: dict[str, Any] = {
        "show_error": False,
        "max_file_size": 1,
        "footer_links": ["api", "gradio", "settings"],
    }
    launched: tuple[Any, str, str] = demo.launch(**{**settings, **options})
    return launched

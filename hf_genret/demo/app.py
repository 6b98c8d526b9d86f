"""A page that searches a checkpoint and shows which id led to each document."""

from __future__ import annotations

import html
import warnings
from typing import TYPE_CHECKING, Any

from hf_genret.errors import GenRetError, MissingExtraError

if TYPE_CHECKING:
    import gradio

    from hf_genret.retriever import GenRetriever, Hit

COLUMNS = ["title", "docid", "score", "snippet"]
SNIPPET = 240  # characters of a document shown
_TITLE = 100
_LONGEST_QUERY = 2_000  # characters taken from the page
_AT_ONCE = 2  # searches running at the same time


def build_demo(
    retriever: GenRetriever, *, title: str = "Generative retrieval", examples: int = 5
) -> gradio.Blocks:
    """A search box, examples, and a table of results with their docids.

    Args:
        retriever: What is searched; a model that reads histories takes ids separated by commas.
        title: Heading of the page.
        examples: Example queries, taken from the documents.

    Returns:
        The page; `.launch()` serves it.

    Raises:
        MissingExtraError: When gradio is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise MissingExtraError("gradio", "demo", "the demo") from error

    def answer(query: str, k: float) -> tuple[list[list[Any]], str]:
        return search_table(retriever, query, int(k))

    reads_text = retriever.model.encoder.query is not None
    with gradio.Blocks(title=title, analytics_enabled=False) as demo:
        gradio.Markdown(f"# {html.escape(title)}\n\n{summary(retriever)}")
        with gradio.Row():
            query = gradio.Textbox(
                label="Query" if reads_text else "History: ids separated by commas, oldest first",
                placeholder="What are you looking for?" if reads_text else "id, id",
                max_length=_LONGEST_QUERY,
                scale=4,
                autofocus=True,
            )
            k = gradio.Slider(1, 50, value=10, step=1, label="Results", scale=1)
        button = gradio.Button("Search", variant="primary")
        message = gradio.Markdown()
        table = gradio.Dataframe(
            headers=COLUMNS,
            datatype=["str", "str", "number", "str"],
            label="Documents",
            interactive=False,
            wrap=True,
            column_widths=["34%", "10%", "10%", "46%"],
        )
        gradio.on(
            [query.submit, button.click],
            answer,
            [query, k],
            [table, message],
            api_name="search",
            concurrency_limit=_AT_ONCE,
            concurrency_id="search",
        )
        gradio.Examples([[text] for text in example_queries(retriever, examples)], [query])
    return demo


def search_table(
    retriever: GenRetriever, query: str | None, k: int = 10
) -> tuple[list[list[Any]], str]:
    """Rows of the table, and what is said above it; whatever is typed gets an answer.

    Args:
        retriever: What is searched.
        query: A text, or ids separated by commas for a model that reads histories.
        k: Rows wanted.

    Returns:
        One row of `COLUMNS` a hit, and a sentence.
    """
    query = " ".join((query or "").split())
    if not query:
        return [], "Type a query first."
    cut = len(query) > _LONGEST_QUERY
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a long query is mentioned on the page
            hits = _search(retriever, query[:_LONGEST_QUERY], k)
    except (GenRetError, ValueError) as error:
        return [], html.escape(f"{error}")
    said = f"{len(hits)} document{'s' * (len(hits) > 1)}." if hits else "Nothing found."
    if cut:
        said += f" Only the first {_LONGEST_QUERY:,} characters of the query were read."
    return [_row(hit) for hit in hits], said


def _search(retriever: GenRetriever, query: str, k: int) -> list[Hit]:
    if retriever.model.encoder.query is not None:
        return retriever.search(query, k=k)
    history = [part.strip() for part in query.split(",") if part.strip()]
    return retriever.recommend(history, k=k)


def _row(hit: Hit) -> list[Any]:
    title = str(hit.document.get("title") or hit.id)
    text = " ".join(str(hit.document.get("text") or "").split())
    docid = "-".join(str(code) for code in hit.docid)
    return [_short(title, _TITLE), docid, round(float(hit.score), 4), _short(text, SNIPPET)]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def summary(retriever: GenRetriever) -> str:
    """One line about the index."""
    config = retriever.model.config
    levels = " × ".join(str(size) for size in config.codebook_sizes)
    return (
        f"{config.num_documents:,} documents under {retriever.model.index.num_nodes[-1]:,} learned "
        f"ids of {config.num_levels} codes ({levels}). A docid is the path by which the decoder "
        "found the document."
    )


def example_queries(retriever: GenRetriever, count: int) -> list[str]:
    """First words of documents spread over the corpus, or ids for a model that reads histories."""
    total = len(retriever.documents)
    count = min(count, total)
    rows = [total * i // count for i in range(count)]
    if retriever.model.encoder.query is None:
        return [retriever.documents.id_of(row) for row in rows]
    words = []
    for row in rows:
        document = retriever.documents[row]
        words.append(" ".join(str(document["title"] or document["text"]).split()[:8]))
    return list(dict.fromkeys(words))

"""What the page says before anything is asked."""

from __future__ import annotations

import html

from hf_genret.retriever import GenRetriever


def intro_html(retriever: GenRetriever, title: str) -> str:
    """Heading, one sentence, and the three steps of a search with this index's numbers."""
    config, index = retriever.model.config, retriever.model.index
    sizes = " × ".join(f"{size:,}" for size in config.codebook_sizes)
    reads = "your words" if retriever.model.encoder.query is not None else "the history"
    steps = [
        ("Read", f"An encoder turns {reads} into vectors."),
        (
            "Write",
            f"A decoder writes a docid, {config.num_levels} codes one after another "
            f'<span class="g-nowrap">({sizes})</span>. '
            f"Only the {index.num_nodes[-1]:,} that exist can be written.",
        ),
        (
            "Rank",
            "The few documents under the most probable docids are ranked, "
            f"not all {config.num_documents:,}.",
        ),
    ]
    cards = "".join(
        f'<li><b><span class="g-number">{number}</span>{name}</b><p>{sentence}</p></li>'
        for number, (name, sentence) in enumerate(steps, start=1)
    )
    return (
        f"<header><h1>{html.escape(title)}</h1>"
        '<p class="g-lead">Instead of comparing your query with every document, a model '
        "<em>writes the id</em> of the place where the answer lies.</p>"
        f'<ol class="g-three-steps">{cards}</ol></header>'
    )

"""The page itself: what stands where, and what happens when something is asked.

This file alone needs gradio; what the page says is made by its neighbours.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio

from hf_genret.demo import parts
from hf_genret.demo.answers import Answers
from hf_genret.demo.browser import browser_html
from hf_genret.demo.compare import compare_html
from hf_genret.demo.examples import example_queries
from hf_genret.demo.filters import IDS
from hf_genret.demo.intro import intro_html
from hf_genret.demo.limits import AT_ONCE, LONGEST_QUERY, MOST_HITS, WAITING, clean_k
from hf_genret.demo.results import results_html
from hf_genret.errors import DataError, GenRetError
from hf_genret.retriever import GenRetriever

_HERE = Path(__file__).parent
_ANY = ""


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


class Page:
    """A search box over results, a comparison and the tree of ids.

    Args:
        retriever: What is searched.
        title: Heading.
        examples: Example queries, or how many are taken from the documents.

    Raises:
        DataError: When the retriever has no documents.
    """

    def __init__(self, retriever: GenRetriever, title: str, examples: Sequence[str] | int) -> None:
        if len(retriever.model.index) == 0:
            raise DataError("nothing is indexed yet, so there is nothing to show.")
        self.answers, self.title = Answers(retriever), title
        self.examples = (
            example_queries(retriever, examples) if isinstance(examples, int) else list(examples)
        )

    # ---- what stands where ----------------------------------------------------------------

    def build(self) -> gradio.Blocks:
        """The page with everything wired."""
        with gradio.Blocks(title=self.title, analytics_enabled=False) as demo:
            intro = intro_html(self.answers.retriever, self.title)
            self._html(f"<style>{_read('page.css')}</style>{intro}", "g-intro")
            self._ask()
            self._show()
            self._wire(demo)
            self._api()
        demo.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)
        return demo

    def _ask(self) -> None:
        """The query, examples, and what is limited."""
        text = self.answers.reads_text
        with gradio.Row(elem_id="g-ask", equal_height=True):
            self.query = gradio.Textbox(
                show_label=False,
                label="Query",
                placeholder="What are you looking for?"
                if text
                else "ids of earlier items, oldest first, with commas between",
                max_length=LONGEST_QUERY,
                max_lines=1,
                scale=5,
                container=False,
                elem_id="g-query",
            )
            self.button = gradio.Button("Search", variant="primary", scale=1, min_width=110)
        chips = "".join(
            f'<button type="button" class="g-example" data-query="{html.escape(one)}">'
            f"{parts.text(one, 60)}</button>"
            for one in self.examples
        )
        self.chips = self._html(f'<div class="g-examples">{chips}</div>', "g-examples")
        folded = gradio.Accordion("Filter and number of results", open=False, elem_id="g-options")
        with folded, gradio.Row():
            fields = [("everywhere", _ANY), ("these ids", IDS)]
            fields += [(name, name) for name in self.answers.filter.fields]
            self.field = gradio.Dropdown(
                fields, value=_ANY, label="Only documents with", elem_id="g-field"
            )
            self.value = gradio.Dropdown(
                [], value="", label="holding", allow_custom_value=True, elem_id="g-value"
            )
            self.k = gradio.Slider(1, MOST_HITS, value=10, step=1, label="Results", elem_id="g-k")

    def _show(self) -> None:
        """The sentence about a search, and three views."""
        self.said = self._html("", "g-message")
        with gradio.Tabs(selected="results", elem_id="g-tabs") as self.tabs:
            with gradio.Tab("Results", id="results"):
                self.results = self._html("", "g-results")
            with gradio.Tab("Compare", id="compare"):
                self.compared = self._html("", "g-compare")
            with gradio.Tab("Browse ids", id="ids"):
                self.tree = self._html("", "g-tree")

    def _html(self, value: str, name: str) -> gradio.HTML:
        script = _read("page.js")
        return gradio.HTML(value, elem_id=name, js_on_load=script, apply_default_css=False)

    # ---- what happens ---------------------------------------------------------------------

    def _wire(self, demo: gradio.Blocks) -> None:
        asked = [self.query, self.k, self.field, self.value]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        searching: dict[str, Any] = {
            "api_visibility": "private",
            "concurrency_limit": AT_ONCE,
            "concurrency_id": "search",
        }

        def then_search(event: Any) -> None:
            event.then(
                self._answer,
                asked,
                [self.said, self.results, self.tabs],
                show_progress_on=[self.results],
                **searching,
            ).then(None, asked, js=_read("link.js"), **quiet).then(
                self._compare, asked, [self.compared], show_progress="hidden", **searching
            )

        opened = demo.load(self._opened, None, [*asked, self.tree], **quiet)
        then_search(opened)
        then_search(gradio.on([self.query.submit, self.button.click], lambda: None, **quiet))
        then_search(self.chips.ask(self._example, None, [self.query], **quiet))
        then_search(self.k.release(lambda: None, **quiet))
        then_search(self.value.input(lambda: None, **quiet))
        self.field.input(self._values, [self.field], [self.value], **quiet)
        for block in (self.results, self.compared, self.tree):
            block.browse(self._browse, None, [self.tabs, self.tree], **quiet)

    def _opened(self, request: gradio.Request) -> tuple[Any, ...]:
        """The inputs as the address says, else the first example."""
        asked = dict(request.query_params)
        query = asked.get("q", self.examples[0] if self.examples else "")
        field = asked.get("field", _ANY)
        if field not in (_ANY, IDS, *self.answers.filter.fields):
            field = _ANY
        value = gradio.Dropdown(
            self.answers.filter.choices(field), value=asked.get("value", "") if field else ""
        )
        return query[:LONGEST_QUERY], clean_k(asked.get("k")), field, value, self._tree("")

    def _answer(self, query: str, k: float, field: str, value: str) -> tuple[str, str, Any]:
        answer = self.answers.search(query, k, field, value)
        said = parts.notice(answer.said, wrong=answer.wrong)
        if answer.hits:
            link = '<button type="button" class="g-link" data-link="">Copy link</button>'
            said = f'<div class="g-line">{said}{link}</div>'
        return said, results_html(answer), gradio.Tabs(selected="results")

    def _compare(self, query: str, k: float, field: str, value: str) -> str:
        comparison = self.answers.compare(query, k, field, value)
        return compare_html(comparison, self.answers.retriever.documents)

    def _example(self, event: gradio.EventData) -> str:
        return str(event.query)[:LONGEST_QUERY]

    def _values(self, field: str) -> Any:
        return gradio.Dropdown(
            self.answers.filter.choices(field),
            value="",
            label="ids, with commas between" if field == IDS else "holding",
        )

    def _browse(self, event: gradio.EventData) -> tuple[Any, str]:
        return gradio.Tabs(selected="ids"), self._tree(event.prefix)

    def _tree(self, prefix: Any) -> str:
        try:
            return browser_html(self.answers.browse(prefix))
        except GenRetError as error:
            return parts.notice(f"{error}", wrong=True)

    # ---- without the page -----------------------------------------------------------------

    def _api(self) -> None:
        """The endpoints, for programs."""
        limits: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "search"}

        def search(
            query: str, k: int = 10, field: str = "", value: str = ""
        ) -> list[dict[str, Any]]:
            """Documents for a query, best first: id, score, docid, title and text."""
            answer = self.answers.search(query, k, field, value)
            if answer.wrong or not answer.query:
                raise gradio.Error(answer.said)
            return [
                {
                    "id": hit.id,
                    "score": hit.score,
                    "docid": list(hit.docid),
                    "title": hit.document.get("title"),
                    "text": hit.document.get("text"),
                }
                for hit in answer.hits
            ]

        def explain(
            query: str, id: str, k: int = 10, field: str = "", value: str = ""
        ) -> dict[str, Any]:
            """Why a document is found for a query, or where it is lost."""
            try:
                (found,) = self.answers.explain(query, [id], k, field, value)
            except (GenRetError, ValueError) as error:
                raise gradio.Error(f"{error}") from error
            return found.to_dict()

        def browse(prefix: str = "") -> dict[str, Any]:
            """What lies below a prefix such as 3-17: sizes and typical words."""
            try:
                branch = self.answers.browse(prefix)
            except GenRetError as error:
                raise gradio.Error(f"{error}") from error
            documents = [one["id"] for one in branch.documents]
            return {**branch.node.to_dict(), "ids": documents}

        for function in (search, explain, browse):
            gradio.api(function, api_name=function.__name__, **limits)

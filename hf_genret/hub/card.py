"""The model card: what the checkpoint is, how it is used, and the figures it was measured with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from hf_genret.errors import DataError
from hf_genret.files import atomic_write_text
from hf_genret.hub.facts import health, read_json, training_facts

if TYPE_CHECKING:
    from hf_genret.retriever import GenRetriever

TEMPLATE_FILE = "modelcard_template.md"
TAGS = ("generative-retrieval", "text-retrieval", "semantic-ids", "genret", "transformers")
PLACEHOLDER = "OWNER/NAME"
SYSTEM = "generative"
MARKER = (
    "<!-- Written by `hf-genret card`, which replaces this file. Delete this line to keep what "
    "you change below. -->"
)
_METRICS = ("ndcg@10", "recall@10", "recall@100", "mrr@10")


class GenRetModelCardData(ModelCardData):
    """Front matter of a card.

    Args:
        report: An evaluation report; its figures for this checkpoint become the model index.
        model_name: Name of the model there.
        **kwargs: Further fields, for example `language`, `license`, `base_model`, `datasets`.
    """

    def __init__(
        self,
        report: Mapping[str, Any] | None = None,
        model_name: str = "genret",
        **kwargs: Any,
    ) -> None:
        results = eval_results(report) if report else []
        if results:
            kwargs.update(model_name=model_name, eval_results=results)
        kwargs.setdefault("tags", list(TAGS))
        kwargs.setdefault("metrics", sorted({result.metric_type for result in results}) or None)
        super().__init__(library_name="hf-genret", pipeline_tag="text-ranking", **kwargs)


def eval_results(report: Mapping[str, Any]) -> list[EvalResult]:
    """The headline figures of the checkpoint itself.

    Args:
        report: In the shape of `hf_genret.evaluation.report.report`.
    """
    metrics = report.get("systems", {}).get(SYSTEM, {}).get("metrics", {})
    data = report.get("data", {})
    return [
        EvalResult(
            task_type="text-retrieval",
            dataset_type=_slug(data.get("name", "data")),
            dataset_name=str(data.get("name", "data")),
            dataset_split=str(report.get("split", "test")),
            metric_type=name.replace("@", "_at_"),
            metric_name=name,
            metric_value=round(float(metrics[name]["mean"]), 4),
        )
        for name in _METRICS
        if metrics.get(name, {}).get("mean") is not None
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", str(name).lower()).strip("-") or "data"


def render_card(
    retriever: GenRetriever,
    report: Mapping[str, Any] | None = None,
    *,
    repo_id: str | None = None,
    **fields: Any,
) -> str:
    """The README of a checkpoint.

    Args:
        retriever: What is described.
        report: An evaluation report, for the figures.
        repo_id: What the examples load; a placeholder by default.
        **fields: Of the front matter, as in `GenRetModelCardData`.

    Returns:
        Markdown with YAML front matter.

    Raises:
        DataError: When report.json or training.json is not as the commands write it.
    """
    try:
        return _rendered(retriever, report, repo_id, fields)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{retriever.folder or 'the retriever'}: report.json or training.json is not as "
            f"hf-genret wrote it ({type(error).__name__}: {reason})."
        ) from error


def _rendered(
    retriever: GenRetriever,
    report: Mapping[str, Any] | None,
    repo_id: str | None,
    fields: dict[str, Any],
) -> str:
    """`render_card`, in whatever way wrong facts make it fail."""
    import jinja2

    training = training_facts(retriever)
    name = repo_id.split("/")[-1] if repo_id else "genret"
    if training["base_model"]:
        fields = {"base_model": training["base_model"], **fields}
    data = GenRetModelCardData(report, model_name=name, **fields)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["cell"] = _cell
    return environment.from_string(_template()).render(
        card_data=data.to_yaml(),
        marker=MARKER,
        title=name,
        repo_id=repo_id or PLACEHOLDER,
        training=training,
        health=health(retriever, report),
        languages=_listed(fields.get("language")),
        index=retriever.describe(),
        megabytes=_megabytes,
        **_usage(retriever),
        **_figures(report, training["data"].get("notes", ())),
    )


def _cell(text: object) -> str:
    """A text as one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _listed(value: str | Sequence[str] | None) -> str:
    return value if isinstance(value, str) else ", ".join(value or ())


def _template() -> str:
    return (files("hf_genret.model_cards") / TEMPLATE_FILE).read_text(encoding="utf-8")


def _usage(retriever: GenRetriever) -> dict[str, Any]:
    """What the examples of the card need."""
    config = retriever.model.config
    reads_text = retriever.model.encoder.query is not None
    first = retriever.documents[0] if len(retriever.documents) else {"id": "id", "title": "words"}
    # A few words of the first document, without what would end the string or the code block.
    words = re.findall(r"\w+", f"{first.get('title') or first.get('text', '')}")
    identifier = re.sub(r'["\\`\n]', "", str(first["id"]))
    return {
        "reads_text": reads_text,
        "example": (" ".join(words[:6]) or "words") if reads_text else identifier,
        "query_prompt": config.query_prompt,
        "max_query_length": config.max_query_length,
    }


def _figures(report: Mapping[str, Any] | None, said: Sequence[str]) -> dict[str, Any]:
    """The table of results and what has to be said under it, but for what was said already."""
    if not report or not report.get("systems"):
        return {"report": None, "results": "", "results_title": "", "intervals": [], "notes": []}
    from hf_genret.evaluation import markdown_table
    from hf_genret.evaluation.report import notes, title

    return {
        "report": report,
        "results": markdown_table(report),
        "results_title": title(report),
        "intervals": _intervals(report),
        "notes": [note for note in notes(report) if note not in said],
    }


def _intervals(report: Mapping[str, Any]) -> list[str]:
    """The checkpoint's headline figures, each with its interval."""
    metrics = report["systems"].get(SYSTEM, {}).get("metrics", {})
    known = [(name, metrics[name]) for name in _METRICS if name in metrics]
    return [
        f"{name} {entry['mean']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
        for name, entry in known
        if None not in (entry.get("mean"), entry.get("low"), entry.get("high"))
    ]


def write_card(
    folder: str | Path,
    retriever: GenRetriever,
    report: Mapping[str, Any] | None = None,
    *,
    repo_id: str | None = None,
    **fields: Any,
) -> None:
    """Write README.md, and report.json where there is a report, into a checkpoint folder.

    Both may be rewritten later: the manifest does not hold them against the checkpoint.

    Args:
        folder: The checkpoint.
        retriever: What is described.
        report: An evaluation report, for the figures.
        repo_id: What the examples load; a placeholder by default.
        **fields: Of the front matter, as in `GenRetModelCardData`.

    Raises:
        OSError: When the disk refuses.
    """
    from hf_genret.evaluation import write_report

    folder = Path(folder)
    if report is not None:
        write_report(report, folder / "report.json")
    card = render_card(retriever, report, repo_id=repo_id, **fields)
    atomic_write_text(folder / "README.md", card)


def finish_card(folder: Path, retriever: GenRetriever, repo_id: str) -> None:
    """Make the card where there is none; in one that is there, name the repository."""
    path = folder / "README.md"
    if path.is_file():
        text = path.read_text(encoding="utf-8").replace(PLACEHOLDER, repo_id)
    else:
        text = render_card(retriever, read_report(folder), repo_id=repo_id)
    atomic_write_text(path, text)


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report beside a checkpoint, None where there is none that can be read."""
    return read_json(folder / "report.json")

"""The metric in a browser, as a Space: JSON in, figures out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import evaluate
import gradio as gr

(MODULE,) = Path(__file__).resolve().parent.glob("genret_*.py")


def build() -> gr.Interface:
    """The page; `predictions`, `references` and options as one JSON object."""
    metric = evaluate.load(str(MODULE))

    def compute(inputs: str) -> dict[str, Any]:
        try:
            return metric.compute(**json.loads(inputs))
        except (ValueError, TypeError) as error:
            raise gr.Error(" ".join(str(error).split())) from error

    return gr.Interface(
        compute,
        gr.Textbox(label="Arguments of compute() as JSON", lines=8),
        gr.JSON(label="Result"),
        title=MODULE.stem,
        description=metric.description,
        article=metric.inputs_description,
    )


if __name__ == "__main__":
    build().launch()

"""`hf-genret study`: when generative retrieval beats dense retrieval, on the user's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_genret.cli import options
from hf_genret.cli.output import output

Out = Annotated[
    Path, typer.Option("--output", metavar="DIR", help="Where cells, plots and the report go.")
]
Factors = Annotated[
    str | None,
    typer.Option(
        "--factors",
        metavar="NAME,NAME",
        help="Only these of corpus, dim, decoder, negatives, hardness, similarity, ids, beams.",
    ),
]
Generative = Annotated[
    str, typer.Option("--recipe", help="The generative system; the other one is dense.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of every cell."),
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick", help="Few values, few steps, 2,000 documents at most: minutes, not hours."
    ),
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each cell, seeds from 0.")]
ZeroShot = Annotated[
    str | None,
    typer.Option(
        "--zero-shot",
        metavar="OTHER_DATA",
        help="Another corpus with test queries, searched by what was trained on DATA.",
    ),
]
List = Annotated[
    bool, typer.Option("--list", help="Print the cells and which are done; train nothing.")
]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep-checkpoints", help="Keep all checkpoints; by default those of both baselines."
    ),
]


def study(
    data: options.Data,
    out: Out,
    factors: Factors = None,
    recipe: Generative = "uri",
    settings: Settings = None,
    quick: Quick = False,
    seeds: Seeds = 1,
    zero_shot: ZeroShot = None,
    show: List = False,
    keep: Keep = False,
    columns: options.Columns = None,
    streaming: options.Streaming = False,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    json_file: options.Json = None,
) -> None:
    """Study generative against dense retrieval: same data, same encoder, one factor at a time.

    Factors are the size of the corpus, the dimension of dense scores, the size of the decoder,
    number and hardness of negatives, similarity, ids, beams. A cell is one training and one
    measurement; trainings are shared where they are equal. Each stage has a fixed number of steps
    (300 for the encoder and its adapter, 200 a level, 450 on the final ids), whatever the corpus:
    three quarters of what `train` takes at most, and no controls. They are chosen for three hours
    on two cores with some 15,000 documents and a small frozen encoder;
    `--set stages.final.max_steps=600` gives more.

    Stopped and started again, it goes on. The status is 1 when a cell failed; the others are
    reported all the same.

    **Examples**

    - `hf-genret study my-data --output out --set encoder=path/to/encoder`

    - `hf-genret study my-data --output out --quick --factors corpus,negatives`

    - `hf-genret study my-data --output out --zero-shot other-data --seeds 3 --json -`
    """
    from hf_genret.training import study as room

    wish = room.Wish(
        data=data,
        settings=settings or [],
        factors=options.listed(factors),
        recipe=recipe,
        quick=quick,
        seeds=seeds,
        zero_shot=zero_shot,
        keep_checkpoints=keep,
        reading=options.reading(columns, streaming, strict),
    )
    with output(json_file) as result:

        def say(line: str) -> None:
            result.console.print(line, markup=False)

        if show:
            cells = room.list_cells(wish, out)
            for number, (cell, done) in enumerate(cells, start=1):
                say(f"{number}/{len(cells)} {cell.title}: {'done' if done else 'open'}")
            result.write({"cells": [{"slug": c.slug, "done": done} for c, done in cells]})
            return
        report = room.study(wish, out, tell=say, overwrite=overwrite)
        for entry in report["failed"]:
            say(f"Failed: {entry['cell']}: {entry['error']}")
        say(f"Report: {out / 'report.md'}")
        result.write(report)
    if report["failed"]:
        raise typer.Exit(1)

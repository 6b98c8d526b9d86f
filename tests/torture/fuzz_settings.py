"""Gives every setting of every recipe odd values; each is refused in a sentence, or works.

    python tests/torture/fuzz_settings.py --seconds 60 --seed 0
    python tests/torture/fuzz_settings.py --depth train --only tiger --cases 20

Three depths: `load` reads the recipe, `build` also makes model and training data of a tiny corpus,
`train` also does a step of every stage and saves the checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from mutations import ODD  # noqa: E402
from workers import Case, Table, run_cases, serve  # noqa: E402

DEPTHS = ("load", "build", "train")
LIMITS = {"load": 20.0, "build": 60.0, "train": 120.0}
SMALL = [
    "bag={vocab_size: 200, dim: 16}",
    "model.decoder_dim=16",
    "model.decoder_heads=2",
    "queries.pseudo=1",
    "search.beam_weights=[0.0, 0.1]",
    "controls=[]",
]
SMALL_ITEMS = ["items={dim: 8, heads: 2, feature_dim: 4}", *SMALL[1:3], *SMALL[4:]]


def keys_of(tree: Any, before: str = "") -> Iterator[str]:
    """Every dotted key of a recipe's settings, stages by their names."""
    if isinstance(tree, dict):
        entries = tree.items()
    else:
        entries = ((entry["name"], entry) for entry in tree)
    for key, value in entries:
        yield f"{before}{key}"
        inside = isinstance(value, dict) or (
            isinstance(value, list) and value and isinstance(value[0], dict)
        )
        if inside:
            yield from keys_of(value, f"{before}{key}.")


@cache
def settings_of(recipe: str) -> list[str]:
    """What may be set of a recipe, whether or not its file says it."""
    from hf_genret.training.recipes import _MODEL_KEYS, _SECTIONS, Recipe, load_recipe

    found = load_recipe(recipe)
    tree = {key: value for key, value in found.settings.items() if key != "shared_stages"}
    keys = set(keys_of(tree)) | {f"model.{name}" for name in _MODEL_KEYS}
    for name, section in _SECTIONS.items():
        keys |= {f"{name}.{field}" for field in section.__dataclass_fields__}
    keys |= set(Recipe.__dataclass_fields__) - {"name", "settings"}
    stage_fields = type(found.stages[0]).__dataclass_fields__ if found.stages else ()
    keys |= {f"stages.{stage.name}.{field}" for stage in found.stages for field in stage_fields}
    return sorted(keys)


def cases(
    recipes: Sequence[str], depth: str, seed: int, *, count: int | None, seconds: float
) -> Iterator[tuple[str, Case, str]]:
    """One or two settings of one recipe after another, until time or count is over."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if count is not None and number >= count * len(recipes):
            return
        if count is None and time.monotonic() > end:
            return
        recipe = recipes[number % len(recipes)]
        rng = Random(f"{seed} {number}")
        wish = _wish(recipe, rng)
        for _ in range(20 if depth != "load" else 0):  # what is refused at once says nothing more
            if _is_read(recipe, wish):
                break
            wish = _wish(recipe, rng)
        yield recipe, {"recipe": recipe, "settings": wish, "depth": depth}, " ".join(wish)


def _wish(recipe: str, rng: Random) -> list[str]:
    chosen = rng.sample(settings_of(recipe), rng.choice([1, 1, 1, 2]))
    return [f"{key}={_written(rng.choice(ODD))}" for key in chosen]


def _is_read(recipe: str, wish: list[str]) -> bool:
    from hf_genret.training.recipes import load_recipe

    try:
        load_recipe(recipe, wish)
    except Exception:
        return False
    return True


def _written(value: Any) -> str:
    text = json.dumps(value)
    return {"NaN": ".nan", "Infinity": ".inf"}.get(text, text)


def fuzz(
    recipes: Sequence[str],
    depth: str = "load",
    seed: int = 0,
    *,
    count: int | None = None,
    seconds: float = 60,
) -> Table:
    """Set and read for some time, or so many cases a recipe."""
    found = cases(recipes, depth, seed, count=count, seconds=seconds)
    return run_cases(Path(__file__), found, LIMITS[depth])


# ---- in the worker ----------------------------------------------------------------------------


@cache
def _data(task: str) -> Any:
    from targets import helpers

    from hf_genret.data import load_data

    if task == "text":
        return helpers().text_data(40, 12)
    with tempfile.TemporaryDirectory() as root:
        return load_data(helpers().write_sequences(Path(root) / "shop", items=40, users=30))


def _do(case: Case) -> None:
    import torch

    from hf_genret.indexing import autoencoder
    from hf_genret.training import api
    from hf_genret.training.build import build
    from hf_genret.training.recipes import load_recipe

    task = load_recipe(case["recipe"]).task
    if case["depth"] == "load":
        load_recipe(case["recipe"], case["settings"], task)
        return
    small = SMALL if task == "text" else SMALL_ITEMS
    short = [f"stages.{s.name}.max_steps=1" for s in load_recipe(case["recipe"]).stages]
    taken = {setting.split("=")[0] for setting in case["settings"]}
    own = [s for s in [*small, *short] if not any(_within(s, key) for key in taken)]
    recipe = load_recipe(case["recipe"], [*own, *case["settings"]], task)
    data = _data(recipe.task if recipe.task == "text" else "sequential")
    torch.manual_seed(0)
    if case["depth"] == "build":
        build(recipe, data, seed=0)
        return
    real = autoencoder.QuantizedAutoencoder.fit

    def quick(self: Any, x: Any, **wish: Any) -> None:
        real(self, x, **{**wish, "steps": 40})

    autoencoder.QuantizedAutoencoder.fit = quick  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as root:
            api.train_on(data, recipe, Path(root) / "out", seed=0, command="train")
    finally:
        autoencoder.QuantizedAutoencoder.fit = real  # type: ignore[method-assign]


def _within(setting: str, key: str) -> bool:
    """Whether a setting of ours is part of what a case sets, or holds it."""
    own = setting.split("=")[0]
    return own == key or own.startswith(f"{key}.") or key.startswith(f"{own}.")


def main() -> int:
    """Fuzz, print the table; 1 where something was neither refused in a sentence nor works."""
    from hf_genret.training.recipes import list_recipes

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each depth")
    parser.add_argument("--cases", type=int, help="of each recipe, in the place of a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--depth", action="append", choices=DEPTHS)
    parser.add_argument("--only", action="append", choices=list(list_recipes()))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    wish = parser.parse_args()
    if wish.serve:
        serve(_do)
        return 0
    bad = 0
    for depth in wish.depth or DEPTHS:
        recipes = wish.only or list(list_recipes())
        table = fuzz(recipes, depth, wish.seed, count=wish.cases, seconds=wish.seconds)
        print(f"\n{depth}")
        table.print()
        bad += table.bad
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Recipes: one YAML a way of training, and overrides that are checked.

A recipe is a method's own stages and settings. What all methods share on one kind of data (encoder,
sizes, first and last stages) stands in `recipes/tasks`; the recipe lies over it.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetConfig
from hf_genret.training.checks import IDS, check_given, check_stage, known, nearest, own_ids, typed
from hf_genret.training.curriculum import Stage, stages_from
from hf_genret.training.lora import LoraSettings
from hf_genret.training.new_documents import NewDocuments

FOLDER = Path(__file__).resolve().parent / "recipes"
MOST_LEVELS = 64
TASKS = ("text", "sequential", "general")
_SHARED = ("start", "finish")  # lists of stages that a task gives
_LAYERS = ("tasks", "variants")  # changes for one kind of data, or by name


@dataclass
class TextSettings:
    """How a pretrained text encoder is used; None is read from its folder where it says.

    Attributes:
        pooling: `mean`, `cls` or `last`.
        memory: `pooled` (the decoder sees one vector) or `tokens`.
        freeze: Whether its weights stay as they are; its vectors are then computed once.
        max_query_length: Tokens kept of a query.
        max_document_length: Tokens kept of a document.
        query_prompt: Put before every query.
        document_prompt: Put before every document.
    """

    pooling: str | None = None
    memory: str = "pooled"
    freeze: bool = True
    max_query_length: int = 64
    max_document_length: int = 256
    query_prompt: str | None = None
    document_prompt: str | None = None


@dataclass
class BagSettings:
    """The encoder that needs no pretrained weights.

    Attributes:
        vocab_size: Subwords at most.
        dim: Width of the vectors.
    """

    vocab_size: int = 3000
    dim: int = 256


@dataclass
class ItemSettings:
    """Items and histories of a recommendation recipe.

    Attributes:
        dim: Width of the vectors.
        use_ids: Whether each item has an embedding of its own.
        feature_dim: Width of the text features; 0 for none.
        feature_dropout: Dropout of the text features.
        layers: Blocks of the sequence encoder.
        heads: Attention heads of the sequence encoder.
        max_length: Items of a history that are read.
        dropout: Dropout of the history encoder.
    """

    dim: int = 96
    use_ids: bool = True
    feature_dim: int = 128
    feature_dropout: float = 0.2
    layers: int = 2
    heads: int = 2
    max_length: int = 20
    dropout: float = 0.2


@dataclass
class QuerySettings:
    """Training queries.

    Attributes:
        use_train: Whether the data's own training queries are used.
        repeat_train: How often each of them appears.
        pseudo: Queries made from each document; 0 for none.
        kinds: Which kinds are made.
        history: Whether histories that stand beside query texts are read.
        dev_share: Share of the documents whose pseudo-queries stand in for a dev split.
        dev_limit: Dev queries that an evaluation during training searches at most.
    """

    use_train: bool = True
    repeat_train: int = 1
    pseudo: int = 4
    kinds: list[str] = field(default_factory=lambda: ["title", "sentence", "span", "keywords"])
    history: bool = True
    dev_share: float = 0.05
    dev_limit: int = 1000


@dataclass
class SearchSettings:
    """How the finished model searches.

    Attributes:
        beams: Leaves visited; None is derived from `share`, and a small corpus is searched whole
            (`model.exhaustive_up_to`).
        share: Share of the documents that may be ranked for a query.
        max_documents: Documents that may be ranked for a query.
        exclude_history: Whether items of a history are left out of its results; None leaves them
            out unless a tenth of the training or dev targets stand in their own history.
        beam_weights: Weights of the beam's score from which dev chooses.
    """

    beams: int | None = None
    share: float = 0.09
    max_documents: int = 400
    exclude_history: bool | None = None
    beam_weights: list[float] = field(default_factory=lambda: [0.0, 0.01, 0.02, 0.05, 0.1])


@dataclass
class Recipe:
    """Everything a run needs besides data and seed.

    Attributes:
        name: The recipe's name.
        description: One line.
        task: `text`, `sequential` (query = history) or `general` (query = user).
        encoder: `bag`, `items`, or a folder or Hub name of a transformers text encoder.
        levels: L, when `model.codebook_sizes` is not given.
        documents_per_leaf: Size the codebooks are chosen for, likewise.
        shrink: How many times smaller each level's codebook is than the one before, likewise.
        model: Arguments of `GenRetConfig`.
        stages: The curriculum.
        controls: Ids that are trained under the same decoder and ranker for comparison.
        ids: What `before: {ids: given}` stands for, a name of `hf_genret.training.given.GIVEN`.
        index_from: A checkpoint whose ids stand there instead.
        position_code: Documents of one bucket are told apart by a last code, their number in it;
            where training makes the ids this is the level's size, the most a bucket may hold. 0
            for no such code.
        start_from: A checkpoint whose encoder and ranker are taken over; the task's first stages
            are then left out.
        new_documents: Documents that training does without, to measure how they are found.
        settings: The whole tree that the recipe was made of.
    """

    name: str
    description: str
    task: str = "text"
    encoder: str = "bag"
    levels: int = 2
    documents_per_leaf: float = 3.0
    shrink: float = 1.0
    model: dict[str, Any] = field(default_factory=dict)
    text: TextSettings = field(default_factory=TextSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    bag: BagSettings = field(default_factory=BagSettings)
    items: ItemSettings = field(default_factory=ItemSettings)
    queries: QuerySettings = field(default_factory=QuerySettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    stages: list[Stage] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)
    ids: str = "kmeans"
    index_from: str = ""
    position_code: int = 0
    start_from: str = ""
    new_documents: NewDocuments = field(default_factory=NewDocuments)
    settings: dict[str, Any] = field(default_factory=dict)


_SECTIONS: dict[str, type] = {
    "text": TextSettings,
    "lora": LoraSettings,
    "bag": BagSettings,
    "items": ItemSettings,
    "queries": QuerySettings,
    "search": SearchSettings,
    "new_documents": NewDocuments,
}
_MODEL_KEYS = [
    name
    for name in inspect.signature(GenRetConfig.__init__).parameters
    if name not in ("self", "kwargs") and not name.startswith("num_") and "encoder" not in name
]


def list_recipes() -> dict[str, str]:
    """Every shipped recipe: name -> one line."""
    return {
        path.stem: str(yaml.safe_load(path.read_text(encoding="utf-8"))["description"])
        for path in sorted(FOLDER.glob("*.yaml"))
    }


def load_recipe(name: str, settings: Iterable[str] = (), task: str | None = None) -> Recipe:
    """A recipe by name or YAML file, with overrides.

    Args:
        name: A shipped recipe's name or the path of a YAML file; `name:variant` takes one of the
            recipe's variants.
        settings: `key=value`; a key goes down with dots (`model.decoder_dim`), a stage is named
            (`stages.final.epochs`) or numbered from 0; a value is YAML.
        task: Kind of data that is at hand, where the recipe does not fix one; `text` by default.

    Raises:
        ConfigError: For an unknown recipe, variant, key or stage, naming the nearest known one.
    """
    plain, _, variant = (name, "", "") if Path(name).is_file() else name.partition(":")
    path = FOLDER / f"{plain}.yaml"
    if not path.is_file():
        path = Path(plain)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise ConfigError(f"Unknown recipe '{plain}'{nearest(plain, list_recipes())}.")
    pairs = [_pair(setting) for setting in settings]
    tree = _whole(_read(path, FOLDER), dict(pairs).get("task") or task, variant)
    for key, value in pairs:
        _override(tree, key, value)
    _for_levels(tree)
    recipe = _build(name if variant else path.stem, tree)
    if wishes_beams(dict(pairs), path):
        recipe.model.setdefault("exhaustive_up_to", 0)
    return recipe


def wishes_beams(settings: Mapping[str, Any], path: Path) -> bool:
    """Whether a user says how many leaves are visited, which then holds of a small corpus too.

    Args:
        settings: Overrides.
        path: The recipe's file; those that are shipped have numbers for large corpora.
    """
    said = dict(settings)
    if path.parent.resolve() != FOLDER.resolve():
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        said |= tree.get("set") or {}
        for section in ("search", "model"):
            said |= {f"{section}.{key}": value for key, value in (tree.get(section) or {}).items()}
    return bool(said.get("search.beams") or said.get("model.search_beams"))


def variants(name: str) -> list[str]:
    """Names of a shipped recipe's variants."""
    return list(_read(FOLDER / f"{name}.yaml", FOLDER).get("variants") or {})


def _pair(setting: str) -> tuple[str, Any]:
    key, separator, value = setting.partition("=")
    if not separator:
        raise ConfigError(f"--set {setting}: key=value was expected.")
    return key.strip(), _value(setting, value)


def _value(setting: str, text: str) -> Any:
    try:
        return _plain(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"--set {setting[:200]}: the value is not YAML.") from error


def _plain(value: Any) -> Any:
    """The value, where a record of the training can hold it: no dates, nothing within itself."""
    json.dumps(value)
    return value


def _read(path: Path, bases: Path) -> dict[str, Any]:
    """A file's tree: its `base`, what it says itself, then the changes below `set`."""
    try:
        tree: dict[str, Any] = _plain(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = (str(error).splitlines() or ["a value that is none"])[0]
        raise ConfigError(f"{path} is not YAML: {reason}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {tree!r}; settings by name were expected.")
    base, changes = tree.pop("base", None), _named(tree.pop("set", None), f"{path}: set")
    if base is not None:
        known(str(base), [file.stem for file in bases.glob("*.yaml")], "base")
    whole = {} if base is None else _read(bases / f"{base}.yaml", bases)
    _lay_over(whole, tree)
    changed = whole.setdefault("changes", [])
    changed.append(changes)
    return whole


def _lay_over(whole: dict[str, Any], tree: dict[str, Any]) -> None:
    """Settings of one tree over those of another; sections are merged, all else is replaced."""
    for key, value in tree.items():
        both = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = {**whole[key], **value} if both else value


def _whole(recipe: dict[str, Any], task: str | None, variant: str) -> dict[str, Any]:
    """A recipe over its task's defaults, its stages in full, its changes and a variant made."""
    task = str(recipe.pop("task", None) or task or "text")
    known(task, TASKS, "task")
    tree = _read(FOLDER / "tasks" / f"{task}.yaml", FOLDER / "tasks")
    changes = recipe.pop("changes")
    for change in tree.pop("changes"):
        _change(tree, change)
    _lay_over(tree, recipe)
    for_task, by_name = (_named(tree.pop(layer, None), layer) for layer in _LAYERS)
    shared = {name: _listed(tree.pop(name, None), name) for name in _SHARED}
    tree["task"] = task
    tree["stages"] = _expanded(tree.get("stages"), shared)
    _change(tree, _named(for_task.get(task), f"tasks.{task}"))
    for change in changes:
        _change(tree, change)
    if variant:
        known(variant, by_name, f"variant of {tree.get('description', 'the recipe')!r}")
        _change(tree, _named(by_name[variant], f"variants.{variant}"))
    tree["shared_stages"] = [stage.get("name") for stage in shared["start"]]
    return tree


def _named(value: Any, what: str) -> dict[str, Any]:
    """Settings by name; none where there is nothing.

    Raises:
        ConfigError: When it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{what} is {value!r}; settings by name were expected.")
    return value


def _listed(value: Any, what: str) -> list[dict[str, Any]]:
    """Stages of a list; none where there is nothing.

    Raises:
        ConfigError: When it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigError(f"{what} is {value!r}; a list of stages was expected.")
    return value


def _expanded(stages: Any, shared: dict[str, list[dict[str, Any]]]) -> Any:
    """The list of stages with the task's own in place of their names."""
    if not isinstance(stages, list):
        return stages
    out: list[Any] = []
    for entry in stages:
        out += shared[entry] if isinstance(entry, str) and entry in shared else [entry]
    return copy.deepcopy(out)


def _for_levels(tree: dict[str, Any]) -> None:
    """Stages of a recipe that goes level by level, for as many levels as the ids have.

    Those of the last level it names are repeated for further ones, with the level's number at the
    end of their names; those of levels that there are not go. What the recipe says of its last
    level (`levels: [2]`) is then said of the last there is. A level whose codes come of their own
    (`disambiguate`) has no stage.
    """
    listed = tree.get("stages")
    if not isinstance(listed, list):
        return
    stages = [stage for stage in listed if isinstance(stage, dict)]
    named = max((_level(stage) for stage in stages), default=0)
    sizes = _named(tree.get("model"), "model").get("codebook_sizes")
    count = len(sizes) if isinstance(sizes, list) else tree.get("levels")
    if type(count) is int and count > MOST_LEVELS:
        raise ConfigError(f"an id has {MOST_LEVELS} levels at most, {count} were asked for.")
    for stage in stages:
        for when in ("before", "after"):
            _named(stage.get(when), f"stages.{stage.get('name')}.{when}")
    apart = any((stage.get("after") or {}).get("disambiguate") for stage in stages)
    if not named or apart or type(count) is not int or count in (0, named):
        return
    last = [stage for stage in stages if _level(stage) == named]
    end = listed.index(last[-1]) + 1
    more = [
        _at_level(stage, named, level) for level in range(named + 1, count + 1) for stage in last
    ]
    whole = [*listed[:end], *more, *listed[end:]]
    tree["stages"] = [stage for stage in whole if not _level(stage) > count]
    for stage in tree["stages"]:
        for when in ("before", "after"):
            for action in (stage.get(when) or {}).values():
                if isinstance(action, dict) and action.get("levels") == [named]:
                    action["levels"] = [count]


def _level(stage: Any) -> int:
    level = stage.get("level") if isinstance(stage, dict) else 0
    return level if isinstance(level, int) else 0


def _at_level(stage: dict[str, Any], named: int, level: int) -> dict[str, Any]:
    """A copy of a stage for another level."""
    name = str(stage.get("name", "")).removesuffix(f"-{named}")
    return {**copy.deepcopy(stage), "name": f"{name}-{level}", "level": level}


def _change(tree: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        _override(tree, key, copy.deepcopy(value))


def _override(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` at a dotted key."""
    *parents, last = key.split(".")
    place: Any = tree
    for depth, part in enumerate(parents):
        if isinstance(place, list):
            place = _stage(place, part)
        else:
            if depth == 0:
                known(part, _top_keys(), "setting")
            place = place.setdefault(part, {})
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"--set {key}: '{part}' is one value ({place!r}), not settings.")
    if isinstance(place, list):
        raise ConfigError(f"--set {key}: name a stage's setting, for example {key}.epochs=1.")
    if not parents:
        known(last, _top_keys(), "setting")
    place[last] = value


def _stage(stages: list[dict[str, Any]], name: str) -> dict[str, Any]:
    names = [str(stage.get("name")) for stage in stages if isinstance(stage, dict)]
    if name.isdigit() and int(name) < len(stages):
        return stages[int(name)]
    known(name, names, "stage")
    return stages[names.index(name)]


def _top_keys() -> list[str]:
    return [*_own_keys(), *_SHARED]


def _own_keys() -> list[str]:
    """What a whole recipe holds: shared stages stand in its list of stages by then."""
    own = [item.name for item in dataclasses.fields(Recipe)]
    return [name for name in own if name not in ("name", "settings")]


def _build(name: str, tree: dict[str, Any]) -> Recipe:
    """The recipe object, every key checked."""
    rest = copy.deepcopy(tree)
    shared = rest.pop("shared_stages", [])
    for key in rest:
        known(key, _own_keys(), "setting")
    for key, section in _SECTIONS.items():
        values = rest.pop(key, {}) or {}
        names = [item.name for item in dataclasses.fields(section)]
        if not isinstance(values, dict):
            raise ConfigError(f"{key} is {values!r}; settings of its own were expected.")
        for part in values:
            known(part, names, f"setting of {key}")
        rest[key] = section(**typed(section, values, f"{key}."))
    for key in rest.get("model") or {}:
        known(key, _MODEL_KEYS, "setting of model")
    rest["model"] = typed(GenRetConfig, rest.get("model") or {}, "model.")
    stages = rest.pop("stages", None)
    rest["stages"] = stages_from([] if stages is None else stages)
    recipe = Recipe(**typed(Recipe, {"name": name, **rest}, ""), settings=tree)
    check_given(recipe)
    recipe.stages = _stages_of(recipe, shared)
    known(recipe.task, TASKS, "task")
    if recipe.task == "text" and recipe.search.exclude_history:
        raise ConfigError("search.exclude_history is for recipes that read histories alone.")
    for ids in recipe.controls:
        known(ids, IDS, "control")
    return recipe


def _stages_of(recipe: Recipe, shared: list[str]) -> list[Stage]:
    """The stages that run with these ids and this start, checked."""
    chosen = []
    for stage in recipe.stages:
        if stage.skip or (stage.ids and recipe.ids not in stage.ids):
            continue
        if recipe.start_from and stage.name in shared:
            continue
        for actions in (stage.before, stage.after):
            if actions.get("ids") == "given":
                actions["ids"] = recipe.ids
            own_ids(str(actions.get("ids", "")), recipe.ids)
        check_stage(stage)
        chosen.append(stage)
    return chosen

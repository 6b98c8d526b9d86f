"""What the folder of a sentence encoder says of its use: modules, pooling, prompts, length."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils import cached_file

from hf_genret.errors import ConfigError
from hf_genret.modeling.encoders_genret import ACTIVATIONS

_POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_cls": "cls",
    "pooling_mode_lasttoken": "last",
}
_MODULES = "modules.json"
_OLD = "0_Transformer"  # where folders of early releases keep the transformer
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
_LIBRARY = "sentence_transformers."
_LENGTHS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


@dataclass
class DenseLayer:
    """A linear map and an activation that follow the pooling.

    Attributes:
        settings: As `TextEncoder` takes them.
        weights: `weight` [out, in], and `bias` [out] where there is one.
    """

    settings: dict[str, Any]
    weights: dict[str, Tensor]


@dataclass
class EncoderFolder:
    """What a folder says; of a folder of transformers alone, nothing.

    Attributes:
        name: Folder or Hub name.
        transformer: The subfolder with the transformer, empty for the folder itself.
        pooling_settings: Of the pooling module, empty where there is none.
        dense: What follows the pooling, in order.
        max_length: Tokens that are read.
        lower_case: Whether texts are read in lower case.
        prompts: Text put before others, by its name.
        default_prompt: Put where no other is meant.
        similarity: What its vectors are compared by, as far as it is not the cosine.
    """

    name: str
    transformer: str = ""
    pooling_settings: dict[str, Any] = field(default_factory=dict)
    dense: list[DenseLayer] = field(default_factory=list)
    max_length: int = sys.maxsize
    lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    similarity: str | None = None

    def pooling(self) -> str:
        """`mean`, `cls` or `last`; the mean where nothing is said.

        Raises:
            ConfigError: When it pools in a way that the model does not have.
        """
        facts = self.pooling_settings
        switches = {key: on for key, on in facts.items() if key.startswith("pooling_mode_")}
        modes = [key for key, on in switches.items() if on is True]
        if not switches or "pooling_mode" in facts:
            modes = modes or [f"pooling_mode_{facts.get('pooling_mode', 'mean')}"]
        if len(modes) != 1 or modes[0] not in _POOLING:
            raise ConfigError(
                f"{self.name} pools with {', '.join(modes) or 'nothing'}; "
                f"known: {', '.join(_POOLING)}. Choose one with text.pooling=mean, cls or last."
            )
        return _POOLING[modes[0]]

    def prompt(self, *names: str) -> str:
        """The first prompt with one of these names, else the default one.

        Raises:
            ConfigError: When pooling leaves it out, which the model cannot.
        """
        chosen = next((self.prompts[name] for name in names if name in self.prompts), None)
        prompt = self.default_prompt if chosen is None else chosen
        if prompt and self.pooling_settings.get("include_prompt") is False:
            raise ConfigError(
                f"{self.name} leaves its prompts out of pooling (include_prompt), which is not "
                "possible here; say text.query_prompt and text.document_prompt to have yours "
                "pooled, '' for none."
            )
        return prompt


def transformer_of(name: str) -> str:
    """The subfolder of an encoder's folder that holds the transformer, empty for itself.

    Raises:
        ConfigError: When the folder has modules that are not understood.
    """
    return _modules(name)[0][1]


def read_encoder_folder(name: str) -> EncoderFolder:
    """Read what a folder, or a repository of the Hub, says of its encoder.

    Raises:
        ConfigError: When it has a module or a setting that the model cannot have, by its name.
    """
    modules = _modules(name)
    said = _json(name, "config_sentence_transformers.json")
    prompts = dict(said.get("prompts") or {})
    default = said.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ConfigError(f"{name}: default_prompt_name is {default!r}, which is no prompt of its.")
    unit_length = any(kind == "Normalize" for kind, _ in modules)
    cosine = unit_length or said.get("similarity_fn_name") in (None, "cosine", "cos_sim")
    of_text = _text_settings(name, modules[0][1])
    pooling = [path for kind, path in modules if kind == "Pooling"]
    return EncoderFolder(
        name=name,
        transformer=modules[0][1],
        pooling_settings=_json(name, f"{pooling[0]}/config.json") if pooling else {},
        dense=[_dense(name, path) for kind, path in modules if kind == "Dense"],
        max_length=int(of_text.get("max_seq_length") or sys.maxsize),
        lower_case=bool(of_text.get("do_lower_case")),
        prompts=prompts,
        default_prompt=prompts.get(default, ""),
        similarity=None if cosine else said["similarity_fn_name"],
    )


def _modules(name: str) -> list[tuple[str, str]]:
    """Kind and path of each module, the transformer first.

    Raises:
        ConfigError: A module that is not understood, or in another order.
    """
    listed = _json(name, _MODULES)
    if not listed:
        old = not _file(name, "config.json") and _file(name, f"{_OLD}/config.json")
        return [("Transformer", _OLD if old else ""), ("Pooling", "1_Pooling")]
    try:
        modules = [(str(entry["type"]), str(entry.get("path", ""))) for entry in listed]
    except (TypeError, KeyError) as error:
        message = "expected a list of modules with type and path"
        raise ConfigError(f"{name}: {_MODULES}: {message}.") from error
    kinds = [kind.rpartition(".")[2] for kind, _ in modules]
    for (full, path), kind in zip(modules, kinds, strict=True):
        if kind not in _ORDER or not full.startswith(_LIBRARY):
            raise ConfigError(
                f"{name}: the module {path or full} ({full}) cannot be applied; a text encoder "
                f"of {', '.join(_ORDER)} was expected."
            )
    once = all(kinds.count(kind) <= 1 for kind in _ORDER if kind != "Dense")
    if kinds[0] != "Transformer" or not once or kinds != sorted(kinds, key=_ORDER.index):
        raise ConfigError(
            f"{name}: the modules {', '.join(kinds)} cannot be applied in this order; "
            f"{', '.join(_ORDER)} was expected."
        )
    return [(kind, path) for kind, (_, path) in zip(kinds, modules, strict=True)]


def _dense(name: str, path: str) -> DenseLayer:
    """A dense module.

    Raises:
        ConfigError: When its activation, its place or its weights are not understood.
    """
    facts = _json(name, f"{path}/config.json")
    activation = str(facts.get("activation_function", "")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ConfigError(
            f"{name}: {path} has the activation {facts.get('activation_function')!r}; "
            f"known: {', '.join(ACTIVATIONS)}."
        )
    for key in ("module_input_name", "module_output_name"):
        if facts.get(key) not in (None, "sentence_embedding"):
            raise ConfigError(
                f"{name}: {path} has {key}={facts[key]!r}; a map of the pooled vector was expected."
            )
    file = _file(name, f"{path}/model.safetensors")
    if file is None:
        raise ConfigError(f"{name}: expected {path}/model.safetensors, found no such file.")
    try:
        stored = load_file(file)
        weights = {key.removeprefix("linear."): value.float() for key, value in stored.items()}
        right = set(weights) == {"weight", *(["bias"] if facts.get("bias", True) else [])}
        shape = (int(facts["out_features"]), int(facts["in_features"]))
        if not right or tuple(weights["weight"].shape) != shape:
            raise ValueError(f"weights are {', '.join(stored)}, of another shape than {shape}")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {path} cannot be read ({error}).") from error
    settings = {"size": shape[0], "bias": "bias" in weights, "activation": activation}
    return DenseLayer(settings, weights)


def check_widths(folder: EncoderFolder, width: int) -> int:
    """The width of the vectors that come out.

    Args:
        folder: Its dense layers are checked.
        width: Of the transformer's states.

    Raises:
        ConfigError: When a layer takes vectors of another width than those it gets.
    """
    for layer in folder.dense:
        size, taken = layer.weights["weight"].shape
        if taken != width:
            raise ConfigError(
                f"{folder.name}: a dense module takes vectors of width {taken}, "
                f"those before it have {width}."
            )
        width = size
    return width


def _text_settings(name: str, transformer: str) -> dict[str, Any]:
    """How long texts may be and whether they are read in lower case; several names are in use."""
    for kind in _LENGTHS:
        facts = _json(name, _join(transformer, f"sentence_{kind}_config.json"))
        if facts:
            return facts
    return {}


def _json(name: str, file: str) -> Any:
    """What a JSON file says, an empty dictionary where there is none.

    Raises:
        ConfigError: When it is no JSON.
    """
    path = _file(name, file)
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path else {}
    except ValueError as error:
        raise ConfigError(f"{name}: {file} is not JSON ({error}).") from error


def _file(name: str, file: str) -> Path | None:
    try:
        path = cached_file(
            name,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # nothing of that name; who loads the weights says so
        return None
    return Path(path) if path else None


def _join(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file

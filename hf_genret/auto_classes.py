"""`import hf_genret` makes transformers' Auto classes know the model, and loads neither of the two.

transformers asks `AutoConfig` first whatever is loaded, so the model's classes are registered when
that is first asked: at once for a transformers that is there already, else when it is imported.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_AUTO_CONFIG = "transformers.models.auto.configuration_auto"
_ASKED = ("from_pretrained", "for_model")


class _Watcher:
    """A finder that finds nothing itself, but sees transformers' `AutoConfig` being imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the finders behind this one find; the module then tells of the model."""
        if name != _AUTO_CONFIG:
            return None
        finders = list(sys.meta_path)
        for finder in finders[finders.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _after_loading(spec.loader)
            if spec is not None:
                return spec
        return None


def _after_loading(loader: Any) -> None:
    """Let a loader do one thing more with the module that it was made for."""
    load = loader.exec_module

    @functools.wraps(load)
    def load_and_tell(module: ModuleType) -> None:
        load(module)
        _tell(module)

    loader.exec_module = load_and_tell


def _tell(module: ModuleType) -> None:
    """Have `AutoConfig` register the model before it answers."""
    auto = module.AutoConfig
    for name in _ASKED:
        setattr(auto, name, _registering(vars(auto)[name]))


def _registering(method: classmethod[Any, Any, Any]) -> classmethod[Any, Any, Any]:
    @functools.wraps(method.__func__)
    def ask(cls: type, *args: Any, **kwargs: Any) -> Any:
        # Not when transformers is imported: half of it may not be there yet.
        importlib.import_module("hf_genret.modeling")
        return method.__get__(None, cls)(*args, **kwargs)

    return classmethod(ask)


def watch() -> None:
    """See to it once, whether transformers was imported before or will be."""
    if any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Watcher())
    if _AUTO_CONFIG in sys.modules:
        _tell(importlib.import_module(_AUTO_CONFIG))  # waits where another thread is at it

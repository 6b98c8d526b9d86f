"""Documentation of the public classes and functions of the running Python's standard library.

Run as a script in a fresh interpreter (`stdlib.py` does so) it prints one JSON object a line, and
therefore imports nothing but the standard library. In a process with other libraries loaded the
result would depend on what they have patched: transformers adds methods to `logging.Logger`,
torch replaces `inspect.getfile`. Modules are imported with their output and warnings hushed, and
those that open windows, print or change the process are passed over.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import pkgutil
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType

#: Never imported: windows, output, test suites, side effects on the process, or modules that
#: are other modules' platform variants and would only double their texts.
SKIPPED = frozenset(
    """
    antigravity this idlelib turtle turtledemo tkinter test lib2to3 distutils imp ensurepip
    pydoc_data readline rlcompleter msilib winreg winsound nt ntpath posix posixpath genericpath
    nturl2path sre_compile sre_constants sre_parse pyexpat xxlimited xxlimited_35 xxsubtype
    """.split()  # noqa: SIM905  (thirty lines otherwise)
)
#: Packages whose submodules are alike (one codec each).
FLAT = frozenset(["encodings"])
#: Shorter docstrings say too little to be found.
MIN_WORDS = 7

_SIGNATURE_LINE = re.compile(r"[\w.]+\(.*\)(\s*(->|--|=>|:).*)?")


@dataclass(frozen=True)
class Entry:
    """One documented thing: qualified name, kind, module, signature and cleaned docstring."""

    name: str
    kind: str
    module: str
    signature: str
    text: str


def module_names() -> list[str]:
    """Public top-level modules of the standard library that are safe to import, sorted."""
    names = (name for name in sys.stdlib_module_names if not name.startswith("_"))
    return sorted(set(names) - SKIPPED)


def _import(name: str) -> ModuleType | None:
    """A module, or None where this machine cannot import it (tkinter, Windows, ...)."""
    hush = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(hush),
        contextlib.redirect_stderr(hush),
    ):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit):  # an import may fail in any way on some machine
            return None


def _modules(
    names: Sequence[str], imported: Callable[[str], None]
) -> Iterator[tuple[str, ModuleType]]:
    """The modules and their public submodules, under the names a user writes."""
    for name in names:
        module = _import(name)
        imported(name)
        if module is None:
            continue
        yield name, module
        if name == "os":
            yield "os.path", module.path
        if name in FLAT or not hasattr(module, "__path__"):
            continue
        inner = sorted(found.name for found in pkgutil.iter_modules(module.__path__))
        public = [f"{name}.{part}" for part in inner if not part.startswith(("_", "test"))]
        yield from _modules(public, imported)


def clean(docstring: str) -> str:
    """A docstring without indentation and without the signature lines C code begins with."""
    lines = inspect.cleandoc(docstring).splitlines()
    while lines and (not lines[0].strip() or _SIGNATURE_LINE.fullmatch(lines[0].strip())):
        lines.pop(0)
    return "\n".join(line.rstrip() for line in lines).strip()


def _own_docstring(thing: object) -> str:
    """The docstring that a thing has itself, not one that it inherits."""
    docstring = (vars(thing) if inspect.isclass(thing) else {}).get("__doc__", None)
    if not inspect.isclass(thing):
        docstring = getattr(thing, "__doc__", None)
    return docstring if isinstance(docstring, str) else ""


def _signature(name: str, thing: object) -> str:
    """Name and parameters without defaults, whose text can differ from run to run."""
    try:
        parameters = inspect.signature(thing).parameters.values()  # type: ignore[arg-type]
    except Exception:  # builtins without one raise ValueError, a few classes anything else
        return ""
    stars: dict[int, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    shown = [stars.get(one.kind, "") + one.name for one in parameters if one.name != "self"]
    return f"{name.rsplit('.', 1)[-1]}({', '.join(shown)})"


def _is_own(name: str, thing: object, module: ModuleType) -> bool:
    """Whether a module's attribute is its own public one and not merely imported there."""
    if name.startswith("_"):
        return False
    origin = getattr(thing, "__module__", None) or ""
    if origin.partition(".")[0] not in sys.stdlib_module_names:
        return False  # somebody else's patch
    exported = getattr(module, "__all__", None)
    if exported is not None:
        return name in exported
    return origin.lstrip("_") in (module.__name__, module.__name__.lstrip("_"))


def _entry(name: str, kind: str, module: str, thing: object) -> Iterator[Entry]:
    text = clean(_own_docstring(thing))
    if len(text.split()) >= MIN_WORDS:
        yield Entry(name, kind, module, _signature(name, thing), text)


def _members(name: str, module: str, cls: type) -> Iterator[Entry]:
    """Public methods and properties that a class defines itself."""
    for attribute, raw in sorted(vars(cls).items()):
        if attribute.startswith("_"):
            continue
        thing = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
        if inspect.isroutine(thing):
            yield from _entry(f"{name}.{attribute}", "method", module, thing)
        elif isinstance(thing, property):
            yield from _entry(f"{name}.{attribute}", "property", module, thing)


def _module_entries(name: str, module: ModuleType) -> Iterator[Entry]:
    for attribute, thing in sorted(vars(module).items()):
        if not _is_own(attribute, thing, module):
            continue
        full = attribute if name == "builtins" else f"{name}.{attribute}"
        if inspect.isclass(thing):
            yield from _entry(full, "class", name, thing)
            yield from _members(full, name, thing)
        elif inspect.isroutine(thing):
            yield from _entry(full, "function", name, thing)


def gather(
    names: Sequence[str] | None = None, imported: Callable[[str], None] = lambda name: None
) -> list[Entry]:
    """Documented public classes, functions, methods and properties, each text once.

    Of several names for one text the one with the fewest dots stays, then the first in the
    alphabet (whatever the case), so that the order of imports does not matter.

    Args:
        names: Top-level modules; all public ones by default.
        imported: Called with the name of each module after its import.

    Returns:
        Entries sorted by name.
    """
    # All imports come first: importing a submodule may replace a function of its package
    # (curses.has_key), which would make the first gathering differ from the second.
    modules = list(_modules(module_names() if names is None else list(names), imported))
    found = [entry for name, module in modules for entry in _module_entries(name, module)]
    unique: dict[str, Entry] = {}
    for entry in sorted(found, key=lambda one: (one.name.count("."), one.name.lower(), one.name)):
        unique.setdefault(" ".join(entry.text.lower().split()), entry)
    return sorted(unique.values(), key=lambda one: one.name)


def main(names: Sequence[str]) -> None:
    """Writes `{"imported": NAME}` a module, then one entry a line, to standard output."""
    out = sys.stdout  # imports see another one

    def say(record: dict[str, str]) -> None:
        out.write(json.dumps(record) + "\n")  # ASCII, whatever the locale
        out.flush()

    for entry in gather(names or None, lambda name: say({"imported": name})):
        say(asdict(entry))


if __name__ == "__main__":
    main(sys.argv[1:])

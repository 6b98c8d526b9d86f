"""The errors a user of the package can meet, each one clear sentence."""

from __future__ import annotations

from pathlib import Path


class GenRetError(Exception):
    """Base of every error that the package raises on purpose."""


class DataError(GenRetError):
    """Data that cannot be used: says which file, which line, which field and what was expected."""

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        where = [str(path)] if path is not None else []
        if line is not None:
            where.append(f"line {line}")
        if field is not None:
            where.append(f"field '{field}'")
        super().__init__(f"{', '.join(where)}: {message}" if where else message)
        self.path, self.line, self.field = path, line, field


class ConfigError(GenRetError):
    """A recipe, a setting or a combination of settings that cannot work."""


class CheckpointError(GenRetError):
    """A checkpoint folder that is missing, incomplete or contradicts itself."""


class DataWarning(UserWarning):
    """Data that was left out or looks wrong, where work goes on; `strict` makes it a DataError."""


class MissingExtraError(GenRetError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'hf-genret[{extra}]'.")

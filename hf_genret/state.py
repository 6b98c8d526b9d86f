"""What a retriever answers from: one object that is replaced as a whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from transformers import PreTrainedTokenizerBase

from hf_genret.documents import DocumentStore
from hf_genret.errors import CheckpointError
from hf_genret.manifest import FIGURES, MANIFEST_FILE, TRAINING_FILE
from hf_genret.modeling import GenRetModel

if TYPE_CHECKING:
    from hf_genret.explain import PrefixWords

RECORDS = (*FIGURES, TRAINING_FILE, MANIFEST_FILE)


@dataclass(eq=False)
class State:
    """Model, tokenizer and documents that belong together; nothing of it changes.

    Attributes:
        model: With or without an index.
        processing_class: The tokenizer; None for a model that reads no text.
        documents: As many as the model's index has rows, in the same order.
        folder: Where this index was loaded from or saved to, None for neither.
        facts: What the manifest says beside files and versions.
        records: Card, report, record of training and manifest of that folder, as they were then.
    """

    model: GenRetModel
    processing_class: PreTrainedTokenizerBase | None
    documents: DocumentStore
    folder: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._prefix_words: PrefixWords | None = None

    @property
    def prefix_words(self) -> PrefixWords:
        """Typical words of docid prefixes, counted when they are first asked for."""
        from hf_genret.explain.words import PrefixWords

        with self._lock:
            if self._prefix_words is None:
                self._prefix_words = PrefixWords(self.model.index, self.documents)
            return self._prefix_words

    def record(self, name: str) -> dict[str, Any]:
        """A JSON object among the records; empty where there is none that can be read."""
        try:
            content = json.loads(self.records.get(name, b""))
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def check_stands(self) -> None:
        """Refuse to go on with a folder that was replaced.

        Raises:
            CheckpointError: When another checkpoint, or none, is there now.
        """
        manifest = self.records.get(MANIFEST_FILE)
        if self.folder is not None and read_records(self.folder).get(MANIFEST_FILE) != manifest:
            raise CheckpointError(f"{self.folder} was replaced meanwhile; run the command again.")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_prefix_words": None}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values, _lock=threading.Lock())


class Stateful:
    """Something that answers from one `State` at a time, and that can be pickled and copied.

    Args:
        state: What it answers from.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._changing, self._saving = threading.Lock(), threading.Lock()

    @classmethod
    def of_state(cls, state: State) -> Self:
        """One that answers from a state."""
        one = cls.__new__(cls)
        one.__setstate__({"state": state})
        return one

    @property
    def model(self) -> GenRetModel:
        """The model with its index; `index` and `compress_vectors` put another in its place."""
        return self.state.model

    @property
    def processing_class(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer; None for a model that reads no text."""
        return self.state.processing_class

    @property
    def documents(self) -> DocumentStore:
        """The documents, in the order of the index's rows."""
        return self.state.documents

    @property
    def folder(self) -> Path | None:
        """Where this index was loaded from or saved to, as long as it is that."""
        return self.state.folder

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the manifest says beside files and versions."""
        return self.state.facts

    @facts.setter
    def facts(self, facts: Mapping[str, Any]) -> None:
        with self._changing:
            self.state = replace(self.state, facts=facts)

    def __getstate__(self) -> dict[str, Any]:
        return {"state": self.state}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._changing, self._saving = threading.Lock(), threading.Lock()


def read_records(folder: Path) -> dict[str, bytes]:
    """The small files that people and programs read beside a checkpoint."""
    return {name: (folder / name).read_bytes() for name in RECORDS if (folder / name).is_file()}

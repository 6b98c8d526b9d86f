"""The page's filter: a field and a value become `only=` of a search."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from hf_genret.demo.limits import LONGEST_FILTER, MOST_IDS
from hf_genret.documents import DocumentStore
from hf_genret.errors import DataError
from hf_genret.hits import allowed_rows

if TYPE_CHECKING:
    from hf_genret.hits import Only

IDS = "id"
_FEW_VALUES = 200  # distinct values of a field that are offered as a list
_READ = 20_000  # documents read to find them
_KEPT = 16  # filters kept


class Filter:
    """Filters by a field of the documents, each evaluated once and kept.

    Args:
        documents: What is filtered.
    """

    def __init__(self, documents: DocumentStore) -> None:
        self.documents = documents
        self.fields = [name for name in documents.columns if name not in (IDS, "text")]
        self._with = lru_cache(_KEPT)(self._holding)

    def only(self, field: Any, value: Any) -> list[str] | None:
        """Ids of the documents that may be found, None for all.

        `id` takes ids with commas or line ends between them. A text leaves the documents that hold
        the value in it, any other field those that have this very value; upper and lower case
        alike.

        Raises:
            DataError: An unknown field or id, too long a value, or nothing left.
        """
        field, value = str(field or "").strip(), ("" if value is None else str(value)).strip()
        if not field or not value:
            return None
        if len(value) > LONGEST_FILTER:
            raise DataError(f"a filter has at most {LONGEST_FILTER:,} characters.")
        if field == IDS:
            return self._ids(value)
        if field not in self.fields:
            known = ", ".join([IDS, *self.fields])
            raise DataError(f"documents have no field '{field}'; they have {known}.")
        ids = self._with(field, value.lower())
        if not ids:
            raise DataError(f"no document holds '{value[:80]}' in its field '{field}'.")
        return ids

    def _holding(self, field: str, wanted: str) -> list[str]:
        """Ids of the documents whose field holds a value, in lower case."""
        return [document["id"] for document in self.documents if _holds(document[field], wanted)]

    def rows(self, only: Only | None) -> torch.Tensor | None:
        """The same as a mask over document rows."""
        return allowed_rows(self.documents, only)

    def choices(self, field: str) -> list[str]:
        """Values of a field, the most frequent first; none where they are too many to offer."""
        if field not in self.fields:
            return []
        counts: Counter[str] = Counter()
        for number, document in enumerate(self.documents):
            if number == _READ or len(counts) > _FEW_VALUES:
                break
            counts[_shown(document[field])] += 1
        few = len(counts) <= _FEW_VALUES and len(counts) < sum(counts.values())
        return [value for value, _ in counts.most_common() if value] if few else []

    def _ids(self, value: str) -> list[str]:
        ids = [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]
        if len(ids) > MOST_IDS:
            raise DataError(f"a filter has at most {MOST_IDS:,} ids, found {len(ids):,}.")
        for identifier in ids:
            self.documents.row_of(identifier)
        return ids


def _holds(value: Any, wanted: str) -> bool:
    """Whether a text has the wanted one in it, or anything else is what was wanted."""
    if isinstance(value, str):
        return wanted in value.lower()
    if wanted == _shown(value).lower():
        return True
    try:
        return isinstance(value, float) and float(wanted) == value  # 5 where 5.0 is held
    except ValueError:
        return False


def _shown(value: Any) -> str:
    """A field's value as it is offered and typed: texts as they are, others as JSON writes them."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

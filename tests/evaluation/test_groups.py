from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data.schema import Queries
from hf_genret.evaluation.bootstrap import summarise
from hf_genret.evaluation.groups import agreed_labels, grouped_metrics, query_groups
from hf_genret.evaluation.metrics import Judgments


def test_a_label_holds_when_all_relevant_documents_share_it():
    """Documents of two kinds make a mixed query; none makes an unjudged one."""
    judgments = Judgments([{0: 1.0, 1: 1.0}, {}, {2: 1.0}, {0: 1.0, 2: 2.0}])
    rows = np.array(["old", "old", "new"])
    labels = agreed_labels(judgments, rows[judgments.row])
    assert labels.tolist() == ["old", "unjudged", "new", "mixed"]


def test_no_judgment_at_all():
    """Every query is unjudged."""
    assert agreed_labels(Judgments([{}, {}]), np.array([], dtype=str)).tolist() == ["unjudged"] * 2


def test_gains_of_zero_are_not_relevant():
    """An unseen document of gain 0 does not mix a query."""
    queries = Queries(["a"], [{0: 1.0, 5: 0.0}])
    assert query_groups(queries, np.array([0])).tolist() == ["seen"]


def test_groups_are_summarised_apart():
    """Each group has the summary of its own queries, with the same seed."""
    rng = np.random.default_rng(0)
    values = {"a": rng.random(20), "b": rng.random(20)}
    labels = np.array(["x", "y"] * 9 + ["unjudged"] * 2)
    parts = grouped_metrics(values, labels, 3)
    assert list(parts) == ["x", "y"]
    inside = {name: column[labels == "y"] for name, column in values.items()}
    assert parts["y"] == {"queries": 9, "metrics": summarise(inside, seed=3)}


def test_wanted_groups_stand_in_order_also_when_empty():
    """A group without queries has a count of 0 and no metrics."""
    parts = grouped_metrics({"a": np.ones(2)}, np.array(["x", "x"]), groups=("z", "x"))
    assert list(parts) == ["z", "x"]
    assert parts["z"] == {"queries": 0, "metrics": {}}


def test_values_of_another_split_are_refused():
    """Lengths have to agree."""
    with pytest.raises(ValueError, match="'a' has 2 values; there are 3 labels"):
        grouped_metrics({"a": np.ones(2)}, np.array(["x"] * 3))

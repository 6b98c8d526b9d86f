"""Tables of presets from runs made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hf_genret.data import Queries
from hf_genret.evaluation import Run, compare_with
from hf_genret.evaluation.bootstrap import paired_p_value
from hf_genret.training.compare.layouts import ablation, index_swap, lay_out, pages, scatter
from hf_genret.training.compare.layouts.evidence import Evidence, changes
from hf_genret.training.compare.layouts.page import ids_of
from hf_genret.training.compare.names import parse_systems
from hf_genret.training.compare.presets import Preset

BIJECTIVE = {"codebook_sizes": [4, 4], "ids_per_document": 1.0, "largest_bucket": 1}
BIJECTIVE |= {"buckets": {"used": 8, "balance": 0.5, "size": {"mean": 1.0, "max": 1}}}
BUCKETS = {"codebook_sizes": [2, 2], "ids_per_document": 1.0, "largest_bucket": 2}
BUCKETS |= {"buckets": {"used": 4, "balance": 1.0, "size": {"mean": 2.0, "max": 2}}}


def one_query_runs(ranked, buckets):
    """A run of one query: what the ranker says, and the leaves."""
    rows = [np.asarray(ranked)]
    leaves = None if buckets is None else [[np.asarray(leaf) for leaf in buckets]]
    pools = None if buckets is None else [np.concatenate([np.asarray(leaf) for leaf in buckets])]
    return Run("x", rows, buckets=leaves, pools=pools)


@pytest.fixture
def evidence():
    """One query with document 3; five systems, `at_beams` cuts the leaves and what is ranked."""
    runs = {
        "fixed": one_query_runs([3, 1, 2, 0], [[0], [1], [2], [3]]),
        "fixed:index_from=uri": one_query_runs([1, 3, 0, 2], [[0, 3], [1, 2]]),
        "uri": one_query_runs([3, 0, 1, 2], [[0, 3], [1, 2]]),
        "uri:no_em": one_query_runs([1, 2], [[1, 2]]),
        "dense": one_query_runs([5, 3, 1, 2, 0, 4], None),
    }
    ids = {"fixed": BIJECTIVE, "fixed:index_from=uri": BUCKETS, "uri": BUCKETS}
    ids["uri:no_em"] = BUCKETS
    beams = {"fixed": 4, "fixed:index_from=uri": 2, "uri": 2, "uri:no_em": 1, "dense": 1}
    systems = {
        name: {"beams": beams[name], "documents_ranked": float(len(run.rows[0]))}
        | ({"ids": ids[name]} if name in ids else {})
        for name, run in runs.items()
    }

    def at_beams(name, beams):
        leaves = runs[name].buckets[0][:beams]
        kept = [row for row in runs[name].rows[0] if row in np.concatenate(leaves)]
        return [one_query_runs(kept, leaves)]

    queries = Queries(["q"], [{3: 1.0}])
    return Evidence(systems, {}, queries, lambda name: [runs[name]], at_beams)


def test_with_and_without_the_ranker(evidence):
    """The ranker's order, and the expectation over orders inside buckets, both by hand."""
    systems = parse_systems("fixed,fixed:index_from=uri,uri,dense")
    table = index_swap.figures(Preset("x", "", "index_swap", []), systems, evidence)
    rows = {row["system"]: row for row in table["rows"]}
    second = 1 / np.log2(3)
    assert rows["fixed"]["with_ranker"]["ndcg@10"]["mean"] == pytest.approx(1.0)
    assert rows["fixed"]["ids_alone"]["ndcg@10"]["mean"] == pytest.approx(1 / np.log2(5))
    swapped = rows["fixed:index_from=uri"]
    assert swapped["with_ranker"]["ndcg@20"]["mean"] == pytest.approx(second)
    assert swapped["ids_alone"]["ndcg@20"]["mean"] == pytest.approx((1 + second) / 2)
    assert swapped["decoder"] == "fixed" and swapped["index_from"] == "uri"
    change = swapped["change"]["with_ranker"]["ndcg@10"]
    assert change["change"] == pytest.approx(second - 1) and change["p"] == 1.0
    assert rows["dense"]["ids_alone"] == {} and rows["dense"]["ids"] is None
    assert rows["uri"]["change"] == {"with_ranker": None, "ids_alone": None}


def test_equal_beams_beside_equal_pools(evidence):
    """At two leaves bijective ids have two documents and miss; at four documents they are equal."""
    systems = parse_systems("fixed,fixed:index_from=uri,uri")
    table = index_swap.figures(Preset("x", "", "index_swap", []), systems, evidence)
    assert (table["beams"], table["pool"]) == (2, 4)
    rows = {row["system"]: row for row in table["rows"]}
    beams = {name: row["equal_beams"] for name, row in rows.items()}
    assert (beams["fixed"]["documents"], beams["uri"]["documents"]) == (2, 4)
    assert beams["fixed"]["candidate_recall"]["mean"] == 0.0
    assert beams["uri"]["candidate_recall"]["mean"] == 1.0
    for name in ("fixed", "uri"):
        assert rows[name]["equal_pool"]["documents"] == 4
        assert rows[name]["equal_pool"]["candidate_recall"]["mean"] == 1.0


def test_the_page_says_which_ids_are_bijective(evidence):
    """Row by row, with beams and documents; nothing is made up where there are no ids."""
    systems = parse_systems("fixed,fixed:index_from=uri,uri,dense")
    page = "\n".join(index_swap.page(index_swap.figures(None, systems, evidence)))
    assert "| fixed | bijective | 1.0000 | 1.0000 |" in page
    assert "| fixed on the ids of uri | buckets of 2.0 (up to 2) |" in page
    assert "| -36.9 % | 1.000 |" in page
    assert "| fixed | bijective | 4 | 4 | 1.0000 | 1.0000 | 2 | .0000 |" in page
    assert "| dense | none | - | 6 | 1.0000 | .6309 | - | - | - | - | 1.0000 | .6309 |" in page


def test_kinds_of_ids():
    """One document each, buckets, several ids a document, none."""
    several = {"ids": BUCKETS | {"ids_per_document": 3.0}}
    assert ids_of(several) == "buckets of 2.0 (up to 2), 3.0 ids a document"
    assert (ids_of({"ids": BIJECTIVE}), ids_of({})) == ("bijective", "none")


def test_systems_that_failed_are_left_out(evidence):
    """A row that is not there, a change without its base."""
    del evidence.systems["fixed"]
    systems = parse_systems("fixed,fixed:index_from=uri,uri")
    table = index_swap.figures(None, systems, evidence)
    assert [row["system"] for row in table["rows"]] == ["fixed:index_from=uri", "uri"]
    assert table["rows"][0]["change"] == {"with_ranker": None, "ids_alone": None}
    assert index_swap.page(table)
    evidence.systems.clear()
    assert index_swap.page(index_swap.figures(None, systems, evidence))


def test_variants_stand_beside_their_bases(evidence):
    """The base has no change, the variant that of recall; leaves stand beside."""
    preset = Preset("x", "", "ablation", [], against={"uri:no_em": "uri"})
    table = ablation.figures(preset, parse_systems("uri,uri:no_em"), evidence)
    base, variant = table["rows"]
    assert base["against"] is None and variant["against"] == "uri"
    assert variant["change"]["with_ranker"]["recall@10"]["change"] == -1.0
    assert "| uri:no_em | uri | .0000 | -100.0 % | 1.000 |" in ablation.page(table)[1]


def test_scattered_ids_by_size_and_kind():
    """Rows by size in order, columns by kind; what was not searched is named."""

    def facts(sizes, ape):
        parts = {"leaf": {"ape": ape, "random": 1.5}, "level_1": {"ape": ape / 2, "random": 0.75}}
        about = {"positives": 4.0, "unbucketed": 1.6, **parts}
        return {"ids": {"codebook_sizes": sizes, "ape": about, "buckets": BUCKETS["buckets"]}}

    alone = {"ids:rq@4x4": facts([4, 4], 1.25), "ids:rq": facts([2, 2], 1.0)}
    found = Evidence({"uri": facts([2, 2], 0.5)}, alone, Queries([], []), None, None)
    systems = parse_systems("ids:rq@4x4,ids:rq,uri,uri@4x4")
    table = scatter.figures(None, systems, found)
    assert [row["codebook_sizes"] for row in table["rows"]] == [[2, 2], [4, 4]]
    page = scatter.page(table)
    leaves, first = page[2], page[4]
    assert "| codes | ids:rq | uri |" in leaves
    assert "| 2×2 | 1.000 (1.500) | 0.500 (1.500) |" in leaves
    assert "| 4×4 | 1.250 (1.500) | - |" in leaves and "| 0.250 (0.750) |" in first
    assert "Of ids:rq nothing was trained and nothing was searched" in page[0]
    assert "uri nothing" not in page[0] and "4.00 documents on average" in page[0]


def test_changes_are_paired_tests_corrected_together(rng):
    """Differences, p and intervals as `compare_with` gives them; Holm by hand over both rows."""
    values = {name: [{"m": rng.random(50)}] for name in "abcd"}
    values["b"][0]["m"] = values["a"][0]["m"] + 0.05
    found = changes(values.__getitem__, {"b": "a", "d": "c"}, ["m"])
    single = {}
    for name, base in (("b", "a"), ("d", "c")):
        pair = {one: values[one][0]["m"] for one in (name, base)}
        expected = compare_with(pair, base)[name]
        entry = found[name]["m"]
        for key in ("difference", "low", "high", "p_single"):
            assert entry[key] == expected[key]
        assert entry["change"] == pytest.approx(entry["difference"] / pair[base].mean())
        single[name] = paired_p_value(pair[name], pair[base])
    assert single["b"] < single["d"]
    assert found["b"]["m"]["p"] == pytest.approx(2 * single["b"])
    assert found["d"]["m"]["p"] == pytest.approx(max(single["d"], 2 * single["b"]))


def test_changes_over_seeds_are_of_means(rng):
    """Each query has the mean over its seeds; a base of zeros has no share."""
    seeds = [{"m": rng.random(9)} for _ in range(2)]
    zeros = [{"m": np.zeros(9)}] * 2
    found = changes({"a": seeds, "z": zeros, "n": []}.__getitem__, {"a": "z", "n": "z"}, ["m"])
    assert list(found) == ["a"] and found["a"]["m"]["change"] is None
    assert found["a"]["m"]["difference"] == pytest.approx(np.mean([s["m"] for s in seeds]))


def test_one_seed_is_held_against_one_seed(rng):
    """A base with more seeds counts with the first, not with their mean."""
    own, base = [{"m": rng.random(9)}], [{"m": rng.random(9)} for _ in range(3)]
    found = changes({"a": own, "b": base}.__getitem__, {"a": "b"}, ["m"])["a"]["m"]
    assert found["difference"] == pytest.approx(np.mean(own[0]["m"] - base[0]["m"]))


def test_tables_of_a_report(evidence):
    """By name of the preset, with what it says of itself."""
    preset = Preset("x", "What it is.", "ablation", ["uri"], note="Mind this.")
    report = {"tables": lay_out({"x": (preset, parse_systems("uri"))}, evidence)}
    parts = pages(report)
    assert parts[:2] == ["## x", "What it is. Mind this."]
    assert pages({}) == []

"""Names of systems: what they stand for, and what is refused."""

from __future__ import annotations

import pytest

from hf_genret.errors import ConfigError
from hf_genret.training.compare import names
from hf_genret.training.compare.names import (
    System,
    known_systems,
    parse_sizes,
    parse_system,
    parse_systems,
)
from hf_genret.training.given import PLACES


@pytest.mark.parametrize(
    ("name", "recipe", "settings", "sizes"),
    [
        ("uri", "uri", (), ()),
        ("uri:no_em", "uri:no_em", (), ()),
        ("uri@16x8", "uri", (), (16, 8)),
        ("uri:no_em@4x4x4", "uri:no_em", (), (4, 4, 4)),
        ("fixed:rq", "fixed", ("ids=rq",), ()),
        ("fixed:title", "fixed:title", (), ()),  # a variant comes before a value of ids
        ("fixed:atomic", "fixed", ("ids=atomic",), ()),
        ("bm25", "", (), ()),
    ],
)
def test_one_system(name, recipe, settings, sizes):
    """A recipe, its variant, given ids, sizes, and what is not trained."""
    assert parse_system(name) == System(name, recipe, settings, sizes)


def test_a_recipe_whose_name_holds_plus_signs(monkeypatch):
    """The longest known name counts; one more plus joins two systems."""
    monkeypatch.setattr(names, "_recipes", lambda: ["asi", "asi++", "dense"])
    monkeypatch.setattr(names, "variants", lambda name: ["no_bottleneck"])
    assert parse_system("asi++") == System("asi++", "asi++")
    fused = parse_system("asi+++dense")
    assert [part.recipe for part in fused.parts] == ["asi++", "dense"]
    assert [part.name for part in parse_system("asi+asi++").parts] == ["asi", "asi++"]
    assert parse_system("asi++:no_bottleneck+bm25").parts[0].recipe == "asi++:no_bottleneck"


def test_systems_of_a_list_come_once_and_in_order():
    """Commas part systems, spaces do not matter, a name counts once."""
    assert [s.name for s in parse_systems(" uri, bm25,uri,dense+bm25")] == [
        "uri",
        "bm25",
        "dense+bm25",
    ]


def test_a_system_on_the_ids_of_another():
    """The other may have a variant, sizes and a fusion behind it; sizes are the other's."""
    system = parse_system("fixed:index_from=uri:no_em@8x8")
    assert (system.recipe, system.settings, system.sizes) == ("fixed", (), (8, 8))
    assert system.index_from == System("uri:no_em@8x8", "uri:no_em", (), (8, 8))
    assert system.slug == "fixed.index_from=uri.no_em@8x8"
    assert parse_system("fixed:title:index_from=uri").recipe == "fixed:title"
    fused = parse_system("fixed:index_from=asi+++bm25")
    assert [part.name for part in fused.parts] == ["fixed:index_from=asi++", "bm25"]


def test_sizes_of_a_system_on_the_ids_of_another():
    """They go to the other, where it has any to choose."""
    system = parse_system("fixed:index_from=uri")
    assert system.takes_sizes and system.at((4, 4)) == parse_system("fixed:index_from=uri@4x4")
    assert not parse_system("fixed:index_from=fixed:atomic").takes_sizes


def test_ids_by_themselves():
    """A value of ids with its sizes; no query is searched."""
    assert parse_system("ids:rq@8x8") == System(
        "ids:rq@8x8", "fixed", ("ids=rq",), (8, 8), searched=False
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fixed:index_from=urii", "Unknown system 'urii'; did you mean 'uri'"),
        ("fixed:index_from=bm25", "'bm25' is not trained; name a system with ids"),
        ("fixed:index_from=ids:rq", "'ids:rq' is not trained; name a system with ids"),
        ("fixed:index_from=dense", "'dense' has no ids"),
        ("dense:index_from=uri", "'dense' learns no ids"),
        ("fixed:rq:index_from=uri", "names ids twice; fixed:index_from=uri learns those"),
        ("fixed:index_from=fixed:index_from=uri", "takes the ids of another one; name that one"),
        ("fixed@4x4:index_from=uri", "found '4x4:index_from=uri'"),
        ("ids:em", "Unknown system 'ids:em'"),
        ("ids", "Unknown system 'ids:'"),
        ("ids:file", "'ids:file' needs the place of the ids: ids:file:PATH"),
        ("ids:rq+bm25", "'ids:rq' answers no queries"),
        ("urii", "Unknown system 'urii'; did you mean 'uri'"),
        ("uri:no_m", "did you mean 'uri:no_em'"),
        ("fixed:kmens", "did you mean 'fixed:kmeans'"),
        ("bm25:stemmed", "'bm25' is not trained"),
        ("bm25@4x4", "'bm25' is not trained"),
        ("uri@16", None),
        ("uri@16x", "written like 16x16; found '16x'"),
        ("dense@16x16", "'dense' has no codebook sizes"),
        ("fixed:atomic@16x16", "'fixed:atomic' has no codebook sizes"),
        ("uri+bm25+dense", "joins more than two systems"),
        ("uri+", "Unknown system ''"),
        ("fixed:file", "needs the place of the ids: fixed:file:PATH"),
        (" , ", "no system is named"),
    ],
)
def test_wrong_names_are_one_sentence(name, message):
    """What is wrong is said with the nearest known name."""
    if message is None:
        assert parse_systems(name)[0].sizes == (16,)
        return
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        parse_systems(name)


def test_files_of_ids_hide_their_place_and_keep_apart():
    """Two files of one name have one name in reports and two places on disk."""
    first, second = (parse_system(f"fixed:file:/{place}/ids.tsv") for place in "ab")
    assert first.name == second.name == "fixed:file:ids.tsv"
    assert first.slug != second.slug and "/" not in first.slug
    places = [f"fixed:index_from=fixed:file:/{place}/ids.tsv" for place in "ab"]
    assert len({parse_system(place).slug for place in places}) == 2


def test_slugs_are_file_names():
    """Every known system has a slug of its own without a colon or a slash."""
    slugs = [
        parse_system(name).slug for name in known_systems() if name.rpartition(":")[2] not in PLACES
    ]
    assert len(set(slugs)) == len(slugs)
    assert not any(set(slug) & set(":/ ") for slug in slugs)


def test_sizes_of_a_list():
    """Sizes are numbers joined by x."""
    assert parse_sizes("16x16,8x8x8") == [(16, 16), (8, 8, 8)]
    with pytest.raises(ConfigError, match="found '16x0'"):
        parse_sizes("16x0")

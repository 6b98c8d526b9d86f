"""Recipes: those that are shipped, overrides, inheritance, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hf_genret.errors import ConfigError
from hf_genret.training.objectives import OBJECTIVES
from hf_genret.training.recipes import FOLDER, list_recipes, load_recipe, variants

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_whole(name):
    """It parses, has a description of one line, and its stages give and use ids in order."""
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.description == list_recipes()[name]
    assert "\n" not in recipe.description
    names = [stage.name for stage in recipe.stages]
    assert len(names) == len(set(names)) > 0
    trains_ids = any(OBJECTIVES[stage.objective].searches for stage in recipe.stages)
    assert trains_ids == (name != "dense")


def test_the_recipes_that_are_promised():
    """The methods, given ids, the dense baseline, histories, users and the quickstart."""
    methods = {"uri", "genret", "genret-code", "asi", "asi++", "dgi", "dsi", "nci", "tiger"}
    methods |= {"fixed", "dense"}
    assert methods | {"uri-sequential", "uri-general", "quickstart"} <= set(SHIPPED)


@pytest.mark.parametrize("task", ["text", "sequential", "general"])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_variant_of_every_task(name, task):
    """A variant changes what exists, or says in one sentence that this data has no such stage."""
    for variant in variants(name):
        try:
            recipe = load_recipe(f"{name}:{variant}", task=task)
        except ConfigError as error:
            assert "Unknown stage" in str(error) and task != "text"
        else:
            assert recipe.name == f"{name}:{variant}"


def stage(name: str, *settings: str):
    recipe = load_recipe("uri", settings)
    return next(stage for stage in recipe.stages if stage.name == name)


def test_overrides_go_down_with_dots():
    """Top level, a section, the model, and a stage by name or number."""
    recipe = load_recipe(
        "uri",
        ["levels=3", "queries.pseudo=2", "model.decoder_dim=64", "bag={dim: 32}", "controls=[]"],
    )
    assert (recipe.levels, recipe.queries.pseudo, recipe.model["decoder_dim"]) == (3, 2, 64)
    assert recipe.bag.dim == 32 and recipe.controls == []
    assert recipe.model["head_type"] == load_recipe("uri").model["head_type"]
    assert stage("final", "stages.final.epochs=7").epochs == 7.0
    assert stage("encoder", "stages.0.epochs=7").epochs == 7.0
    assert stage("level-1", "stages.level-1.options.balance=3").options == {"balance": 3.0} | {
        key: value for key, value in stage("level-1").options.items() if key != "balance"
    }


def test_values_are_yaml():
    """Lists, null, and a float that YAML takes for text."""
    assert load_recipe("uri", ["search.beams=null"]).search.beams is None
    assert load_recipe("uri", ["model.codebook_sizes=[4, 5]"]).model["codebook_sizes"] == [4, 5]
    assert stage("final", "stages.final.learning_rate=1e-3").learning_rate == 0.001
    assert stage("final", "stages.final.keep_best=null").keep_best is None


def test_the_tree_is_kept_for_the_report():
    """`settings` holds what was read, overrides included."""
    assert load_recipe("uri", ["levels=3"]).settings["levels"] == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("quereis.pseudo=1", "Unknown setting 'quereis'; did you mean 'queries'"),
        ("queries.pseud=1", "Unknown setting of queries 'pseud'; did you mean 'pseudo'"),
        ("model.decoderdim=1", "setting of model 'decoderdim'; did you mean 'decoder_dim'"),
        ("model.num_paths=1", "Unknown setting of model 'num_paths'"),
        ("stages.finl.epochs=1", "Unknown stage 'finl'; did you mean 'final'"),
        ("stages.99.epochs=1", "Unknown stage '99'; known: "),
        ("stages.final.epoch=1", "setting of stage 'final' 'epoch'; did you mean 'epochs'"),
        ("stages.final.objective=urii", "objective 'urii' in stage 'final'; did you mean 'uri'"),
        ("stages.final.options.qury=1", "cross_entropy in stage 'final' 'qury'; did you mean 'qu"),
        ("stages.final.after.asign=exact", "action in stage 'final' 'asign'; did you mean 'assi"),
        ("stages.final.after.assign=exat", "assign in stage 'final' 'exat'; did you mean 'exact'"),
        ("stages.final.after.reassign={metod: exact}", "'metod'; did you mean 'method'"),
        ("stages.final.after.reassign={levels: [2]}", "method of reassign in stage 'final' 'None'"),
        ("stages.final.before.ids=kmean", "'kmean'; did you mean 'kmeans'"),
        ("stages.final.train=[encodr]", "trains .'encodr'.; known parts"),
        ("stages.final.epochs=many", "stages.final.epochs is 'many'; a number was expected"),
        ("stages.final=1", "name a stage's setting"),
        ("stages=1", "no list of stages"),
        ("levels=two", "levels is 'two'; a whole number was expected"),
        ("levels=true", "levels is True; a whole number was expected"),
        ("bag=3", "bag is 3; settings of its own were expected"),
        ("encoder.size=3", "'encoder' is one value"),
        ("controls=kmeans", "controls is 'kmeans'; a list of names was expected"),
        ("controls=[kmean]", "Unknown control 'kmean'; did you mean 'kmeans'"),
        ("task=txt", "Unknown task 'txt'; did you mean 'text'"),
        ("search.beams=few", "search.beams is 'few'; a whole number or null was expected"),
        ("levels", "key=value was expected"),
        ("levels=[", "the value is not YAML"),
        ("name=mine", "Unknown setting 'name'"),
    ],
)
def test_mistakes_are_one_sentence(setting, message):
    """Each names the place and what was expected or meant."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe("uri", [setting])
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe():
    """The nearest one is named."""
    with pytest.raises(ConfigError, match="Unknown recipe 'uri-seqential'; did you mean 'uri-seq"):
        load_recipe("uri-seqential")


def write(path: Path, tree: object) -> str:
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def test_a_file_with_a_base(tmp_path):
    """What a file does not say comes from its base; sections are merged, `set` goes into stages."""
    tree = {
        "description": "Mine.",
        "base": "uri",
        "levels": 3,
        "queries": {"pseudo": 9},
        "set": {"stages.final.epochs": 5},
    }
    recipe, base = load_recipe(write(tmp_path / "mine.yaml", tree)), load_recipe("uri")
    assert (recipe.name, recipe.description, recipe.levels) == ("mine", "Mine.", 3)
    assert recipe.queries.pseudo == 9 and recipe.model == base.model
    assert recipe.queries.kinds == base.queries.kinds
    longer = load_recipe("uri", ["levels=3"])
    assert [s.name for s in recipe.stages] == [s.name for s in longer.stages]
    assert {s.name: s.epochs for s in recipe.stages}["final"] == 5.0


def test_a_base_of_a_base():
    """uri-general stands on uri-sequential."""
    assert load_recipe("uri-general").task == "general"
    assert load_recipe("uri-general").encoder == load_recipe("uri-sequential").encoder


def test_a_base_does_not_change(tmp_path):
    """Loading a recipe that stands on another leaves the other as it was."""
    before = load_recipe("uri").settings
    load_recipe("quickstart", ["stages.final.epochs=99"])
    assert load_recipe("uri").settings == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML"),
        ("- a\n- b", "settings by name were expected"),
        ("base: urii\ndescription: x", "Unknown base 'urii'; did you mean 'uri'"),
        ("base: uri\nlevel: 3", "Unknown setting 'level'; did you mean 'levels'"),
        ("base: uri\nset: {stages.finl.epochs: 2}", "Unknown stage 'finl'"),
    ],
)
def test_files_with_mistakes(tmp_path, content, message):
    """A file of one's own is checked like the shipped ones."""
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(path))


def test_a_file_that_is_not_there(tmp_path):
    """A path without a file is an unknown recipe."""
    with pytest.raises(ConfigError, match="Unknown recipe"):
        load_recipe(str(tmp_path / "none.yaml"))


# ---- layers -------------------------------------------------------------------------------


def names_of(*args, **kwargs) -> list[str]:
    return [stage.name for stage in load_recipe(*args, **kwargs).stages]


@pytest.mark.parametrize(
    ("task", "first", "last"),
    [
        ("text", "encoder", ["final", "ranker"]),
        ("sequential", "ranker", ["final"]),
        ("general", "ranker", ["final"]),
    ],
)
@pytest.mark.parametrize("name", ["uri", "fixed"])
def test_first_and_last_stages_are_the_task_s(name, task, first, last):
    """`start` and `finish` in a recipe stand for what all methods share on a kind of data."""
    names = names_of(name, task=task)
    assert names[0] == first and names[-len(last) :] == last


def test_the_task_says_what_recipes_leave_out():
    """Encoder, sizes and search differ by kind of data; a recipe's own settings do not."""
    text, items = (load_recipe("uri", task=task) for task in ("text", "sequential"))
    assert (text.task, text.encoder, text.model["query_adapter"]) == ("text", "bag", True)
    assert (items.task, items.encoder, items.model["normalize"]) == ("sequential", "items", False)
    assert load_recipe("uri").task == "text"


def test_a_recipe_lies_over_its_task():
    """Sections are merged key by key, the recipe's value winning."""
    recipe = load_recipe("dgi")
    assert recipe.model["head_type"] == "codebook" != load_recipe("uri").model["head_type"]
    assert recipe.model["decoder_dim"] == load_recipe("uri").model["decoder_dim"]


def test_a_recipe_changes_itself_for_a_task():
    """`tasks` are overrides for one kind of data."""
    text, items = (
        {s.name: s for s in load_recipe("uri", task=task).stages} for task in ("text", "general")
    )
    assert text["level-1"].max_steps > 0 == items["level-1"].max_steps
    assert text["em"].after["reassign"] != items["em"].after["reassign"] == "exact"


def test_a_setting_chooses_the_task():
    """`task` as an override goes before what the data are; a recipe that fixes one keeps it."""
    assert names_of("uri", ["task=sequential"], task="text")[0] == "ranker"
    assert load_recipe("quickstart", task="sequential").task == "text"
    with pytest.raises(ConfigError, match="Unknown task 'txt'"):
        load_recipe("uri", task="txt")


def test_a_variant_is_a_set_of_overrides():
    """Its changes and nothing else; the name tells."""
    plain, cosine = load_recipe("dense"), load_recipe("dense:cosine")
    assert (plain.name, cosine.name) == ("dense", "dense:cosine")
    assert cosine.model == plain.model | {"ranker_similarity": "cosine"}
    assert cosine.stages == plain.stages


def test_an_override_goes_before_a_variant():
    """What a person says last counts."""
    recipe = load_recipe("dense:cosine", ["model.ranker_similarity=bilinear"])
    assert recipe.model["ranker_similarity"] == "bilinear"


def test_a_variant_that_does_not_exist():
    """The nearest one is named, also for a recipe without any."""
    with pytest.raises(ConfigError, match=r"Unknown variant of .*'cosin'; did you mean 'cosine'"):
        load_recipe("dense:cosin")
    with pytest.raises(ConfigError, match="Unknown recipe 'dens'"):
        load_recipe("dens:cosine")


def test_variants_are_listed():
    """In the order of the file."""
    assert variants("dense") == ["hard", "cosine", "bilinear", "low_rank"]
    assert variants("quickstart") == variants("uri")  # its base's


def test_a_skipped_stage_waits_to_be_asked_for():
    """Left out until somebody sets `skip` to false; it can be changed all the same."""
    assert names_of("dense") == ["encoder"]
    assert names_of("dense", ["stages.hard.epochs=5"]) == ["encoder"]
    assert names_of("dense", ["stages.hard.skip=false"]) == ["encoder", "hard"]
    assert names_of("uri", ["stages.em.skip=true"]) == [n for n in names_of("uri") if n != "em"]


def test_a_stage_for_some_ids_alone():
    """`em` refines its own ids; others leave the stage out."""
    assert "em" in names_of("fixed", ["ids=em"]) and "em" not in names_of("fixed", ["ids=rq"])


@pytest.mark.parametrize("ids", ["rq", "title", "title:4", "atomic", "file:x.tsv"])
def test_given_ids_stand_for_the_recipe_s(ids):
    """`before: {ids: given}` is whatever `ids` says."""
    recipe = load_recipe("fixed", [f"ids={ids}"])
    assert recipe.ids == ids
    assert [stage.before for stage in recipe.stages if stage.before] == [{"ids": ids}]


def test_the_settings_are_the_whole_tree():
    """Every stage in full, overrides and the variant made: what a run can be told apart by."""
    tree = load_recipe("fixed:title", ["levels=3"]).settings
    assert all(isinstance(stage, dict) and "objective" in stage for stage in tree["stages"])
    assert tree["ids"] == "title" and tree["levels"] == 3 and tree["model"]["share_levels"]
    assert tree["shared_stages"] == ["encoder"]
    assert not {"tasks", "variants", "start", "finish", "changes"} & set(tree)


def test_variants_leave_the_recipe_as_it_was():
    """Loading one changes nothing of the next, shared lists included."""
    before = load_recipe("uri").settings
    load_recipe("uri:no_em"), load_recipe("uri:renamed", ["stages.0.options.shared=9"])
    assert load_recipe("uri").settings == before


def test_layers_in_a_file_of_one_s_own(tmp_path):
    """Tasks and variants by name, also beside those of a base."""
    tree = {
        "description": "Mine.",
        "base": "dense",
        "tasks": {"sequential": {"levels": 5}},
        "variants": {"wide": {"bag.dim": 99}},
    }
    path = write(tmp_path / "mine.yaml", tree)
    assert load_recipe(path).levels != 5 == load_recipe(path, task="sequential").levels
    assert load_recipe(f"{path}:wide").bag.dim == 99 != load_recipe(path).bag.dim
    assert load_recipe(f"{path}:cosine").model["ranker_similarity"] == "cosine"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stages.ids.before.codebook=even", "codebook in stage 'ids' 'even'; known: bal"),
        ("stages.ids.before.codebook={size_min: 1}", "codebook in stage 'ids' lacks size_max"),
        ("stages.ids.before.mine={skip: 1}", "mine in stage 'ids' lacks depth"),
        ("stages.ids.after.rename=parent", "rename in stage 'ids' 'parent'; did you mean"),
        ("stages.ids.rates={head: 2}", "Stage 'ids' trains .'head'.; known parts"),
        ("new_documents.shar=0.1", "setting of new_documents 'shar'; did you mean 'share'"),
        ("new_documents.share=some", "new_documents.share is 'some'; a number was expected"),
        ("start=[]", "Unknown setting 'start'"),
        ("finish.final.epochs=3", "Unknown setting 'finish'"),
    ],
)
def test_mistakes_in_layers_are_one_sentence(setting, message):
    """Actions, rates and new documents are checked before anything is loaded."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe("fixed", [setting])
    assert "\n" not in str(caught.value)


# ---- as many stages as levels -------------------------------------------------------------


def stages_at(recipe, *settings):
    """(name, level) of the stages that have a level."""
    found = load_recipe(recipe, list(settings)).stages
    return [(stage.name, stage.level) for stage in found if stage.level]


def test_levels_beyond_those_named_repeat_the_last():
    """Each with its own name; by `levels` or by the sizes themselves, whatever was set before."""
    assert stages_at("uri") == [("level-1", 1), ("level-2", 2)]
    four = [(f"level-{n}", n) for n in (1, 2, 3, 4)]
    assert stages_at("uri", "levels=4") == four
    assert stages_at("uri", "model.codebook_sizes=[4, 4, 4, 4]") == four
    pairs = [(f"{part}-{n}", n) for n in (1, 2, 3) for part in ("warm", "level")]
    assert stages_at("genret", "levels=3") == pairs
    longer = load_recipe("uri", ["levels=3", "stages.level-2.epochs=9"])
    assert [stage.epochs for stage in longer.stages if stage.level] == [2, 9, 9]
    em = next(stage for stage in longer.stages if stage.name == "em")
    assert em.after["reassign"]["levels"] == [3]


def test_levels_that_there_are_not_have_no_stage():
    """One level, one stage."""
    assert stages_at("uri", "levels=1") == [("level-1", 1)]


def test_a_level_that_tells_equal_ids_apart_has_no_stage():
    """It is counted, not learned."""
    assert [level for _, level in stages_at("genret:disambiguate")] == [1, 1, 2, 2]


@pytest.mark.parametrize("recipe", ["asi++", "dgi", "fixed", "dense"])
def test_recipes_that_do_not_go_by_levels_stay(recipe):
    """Their stages are those for all levels at once."""
    two, four = (load_recipe(recipe, [f"levels={n}"]) for n in (2, 4))
    assert [stage.name for stage in two.stages] == [stage.name for stage in four.stages]

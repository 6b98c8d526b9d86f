"""Several ids a document: kept with a run, agreed on, indexed, and made by names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_genret import GenRetriever
from hf_genret.errors import ConfigError
from hf_genret.indexing.forest import forest
from hf_genret.training import api
from hf_genret.training.api import _last_stage_on_ids
from hf_genret.training.build import codebook_sizes, search_beams
from hf_genret.training.curriculum import RunState, stages_from
from hf_genret.training.given import give_codes
from hf_genret.training.objectives import CrossEntropyObjective, RecForestObjective
from hf_genret.training.recipes import load_recipe
from hf_genret.training.stage_actions import perform
from hf_genret.training.workshop import Workshop

FOREST: dict[str, Any] = {
    "forest": True,
    "ids_per_document": 2,
    "codebook_sizes": [2, 4, 3],
    "path_merge": "sum",
    "search_beams": 6,
}
PATHS: dict[str, Any] = {
    "decoder_type": "mlp",
    "head_type": "plain",
    "ids_per_document": 3,
    "codebook_sizes": [4, 4],
    "path_merge": "logsumexp",
    "search_beams": 6,
}


def stage(name: str, objective: str, **more: Any) -> dict[str, Any]:
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3}
    return {"name": name, "objective": objective, "train": ["decoder", "heads"], **settings, **more}


CURRICULA: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "forest": (
        [
            stage("final", "recforest", before={"ids": "forest"}, keep_best="recall"),
            stage("b", "recforest"),
        ],
        FOREST,
    ),
    "paths": (
        [
            stage("a", "deep_retrieval", before={"ids": "random_paths"}),
            stage("b", "deep_retrieval", before={"paths": {}}, after={"paths": {"beams": 5}}),
            stage("c", "deep_retrieval", keep_best="recall"),
        ],
        PATHS,
    ),
}


# ---- the state of a run -------------------------------------------------------------------


def test_a_state_with_paths_survives(tmp_path):
    """Saved and loaded, with and without; the first of a document in code order is its code."""
    state = RunState.fresh(2, 2)
    state.save(tmp_path)
    assert RunState.load(tmp_path).paths is None
    state.give_paths(torch.tensor([[[2, 1], [0, 3], [2, 0]], [[1, 1], [1, 0], [1, 1]]]))
    state.save(tmp_path)
    back = RunState.load(tmp_path)
    assert back.paths.tolist() == [[[0, 3], [2, 0], [2, 1]], [[1, 0], [1, 1], [1, 1]]]
    assert back.codes.tolist() == [[0, 3], [1, 0]] and back.whole
    codes, rows = back.ids()
    assert codes.tolist() == [[0, 3], [2, 0], [2, 1], [1, 0], [1, 1]]
    assert rows.tolist() == [0, 0, 0, 1, 1]


def test_one_id_each_is_what_it_was():
    """`give_codes`, and paths of one, leave no paths; ids are the codes in row order."""
    state = RunState.fresh(3, 2)
    assert not state.whole
    state.give_paths(torch.ones(3, 2, 2, dtype=torch.long))
    codes = torch.tensor([[0, 1], [2, 2], [0, 1]])
    for give in (lambda: state.give_codes(codes), lambda: state.give_paths(codes[:, None])):
        give()
        assert state.paths is None and torch.equal(state.codes, codes)
        assert [part.tolist() for part in state.ids()] == [codes.tolist(), [0, 1, 2]]


class Killed(RuntimeError):
    """Stands for a signal."""


class KillAt(TrainerCallback):
    """Stops the process before a step of a stage."""

    def __init__(self, box: list[Any], stage: int, step: int) -> None:
        self.box, self.stage, self.step = box, stage, step

    def on_step_begin(self, args, state, control, **kwargs):
        if (self.box[0].run.stage, state.global_step) == (self.stage, self.step):
            raise Killed


@pytest.fixture(scope="module")
def unbroken():
    """Filled by the first test that asks for the run of a curriculum."""
    return {}


@pytest.fixture
def run_of(unbroken, trainer_at, tmp_path_factory):
    """A trainer that ran a curriculum undisturbed; once."""

    def run(kind):
        if kind not in unbroken:
            stages, model = CURRICULA[kind]
            unbroken[kind] = trainer_at(tmp_path_factory.mktemp(kind), stages, model=model)
            unbroken[kind].train()
        return unbroken[kind]

    return run


@pytest.mark.parametrize(
    ("kind", "at", "step"), [("forest", 0, 3), ("paths", 1, 0), ("paths", 1, 4)]
)
def test_a_killed_run_goes_on_to_the_same_ids(run_of, trainer_at, tmp_path, kind, at, step):
    """Inside a stage and at its begin: paths, index and weights of an unbroken run."""
    stages, model = CURRICULA[kind]
    whole = run_of(kind)
    box: list[Any] = []
    box.append(
        trainer_at(
            tmp_path / "a", stages, model=model, save_steps=2, callbacks=[KillAt(box, at, step)]
        )
    )
    with pytest.raises(Killed):
        box[0].train(resume_from_checkpoint=True)
    again = trainer_at(tmp_path / "a", stages, model=model, save_steps=2)
    again.train(resume_from_checkpoint=True)
    assert torch.equal(again.run.paths, whole.run.paths)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert len(again.model.index) > 60 and again.model.config.num_documents == 60


@pytest.mark.parametrize("kind", CURRICULA)
def test_the_trainer_s_retriever_has_all_ids(run_of, kind):
    """Indexed with every path of the run, rows in order, and its documents are found."""
    trainer = run_of(kind)
    found = trainer.retriever()
    codes, rows = trainer.run.ids()
    pairs = zip(found.model.index.paths.tolist(), found.model.index.rows.tolist(), strict=True)
    assert sorted((tuple(path), row) for path, row in pairs) == sorted(
        (tuple(path), row) for path, row in zip(codes.tolist(), rows.tolist(), strict=True)
    )
    assert found.search(found.documents[3]["title"], k=60)[0].id == "d3"


@pytest.mark.parametrize(
    "action",
    [{"assign": "exact"}, {"reassign": "exact"}, {"rename": "uniform"}, {"disambiguate": True}],
)
def test_actions_on_one_id_refuse_several(trainer_at, tmp_path, action):
    """They would change the first and forget the others."""
    stages = [stage("one", "recforest", before={"ids": "forest", **action})]
    with pytest.raises(ConfigError, match=r"'one' changes codes of one id a document, .* are 2"):
        trainer_at(tmp_path, stages, model=FOREST).train()


# ---- ids by name --------------------------------------------------------------------------


@pytest.fixture
def shop(tiny, model_on, pairs_of):
    """A workshop on a model of a forest of two trees."""
    model, tokenizer = model_on(tiny, **FOREST)
    plan = stages_from([stage("s", "recforest")])[0]
    return Workshop(model, pairs_of(tiny, model, tokenizer), RunState.fresh(60, 3), plan, seed=4)


def test_a_forest_of_the_ranker_s_vectors(shop):
    """Sizes begin with the number of trees; half of the features by default."""
    for name, ratio in (("forest", 0.5), ("forest:0.8", 0.8)):
        wanted = forest(shop.vectors, 2, [4, 3], seed=4, feature_ratio=ratio, cosine=True)
        assert np.array_equal(give_codes(shop, name).numpy(), wanted)
    for name in ("forest:2", "forest:many"):
        with pytest.raises(ConfigError, match=f"ids={name}"):
            give_codes(shop, name)


def test_cluster_heads_start_at_every_tree_s_clusters(shop):
    """A node's centre is the mean of the documents that this tree puts there."""
    perform(shop, {"ids": "forest"})
    vectors = torch.from_numpy(shop.vectors)
    for tree in range(2):
        paths = shop.state.paths[:, tree]
        for code in range(4):
            mine = vectors[paths[:, 1] == code].mean(0)
            centre = shop.model.heads.centres[1][tree * 4 + code]
            wanted = torch.nn.functional.normalize(mine, dim=0)
            torch.testing.assert_close(centre.detach(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["random_paths", "kmeans_paths"])
def test_paths_made_apart(shop, name):
    """As many as the model's documents own, each balanced, not all alike."""
    paths = give_codes(shop, name)
    assert paths.shape == (60, 2, 3)
    for one in range(2):
        assert torch.bincount(paths[:, one, 1], minlength=4).min() > 0
        assert torch.bincount(paths[:, one, 0], minlength=2).tolist() == [30, 30]
    assert not torch.equal(paths[:, 0], paths[:, 1])


# ---- recipes ------------------------------------------------------------------------------


@pytest.mark.parametrize("documents", [200, 4000, 12_000])
@pytest.mark.parametrize("name", ["recforest", "deep-retrieval"])
def test_sizes_and_beams_of_several_ids(name, documents):
    """Leaves hold about as many as wished, and no more documents are ranked than allowed."""
    recipe = load_recipe(name)
    sizes, count = codebook_sizes(recipe, documents), recipe.model["ids_per_document"]
    leaves = np.prod(sizes, dtype=float)
    assert count * documents / leaves == pytest.approx(recipe.documents_per_leaf, rel=0.3)
    assert (len(sizes), sizes[0]) == (3, 4) if name == "recforest" else len(sizes) == 3
    beams = search_beams(recipe, sizes, documents)
    fullest = np.ceil(count * documents / leaves)
    assert beams * fullest <= min(0.09 * documents, 400) < (beams + 1) * fullest


def test_other_ids_are_one_each():
    """With ids of another kind the recipe is no forest and has no second id."""
    for name in ("recforest", "deep-retrieval"):
        recipe = load_recipe(name, ["ids=kmeans"])
        assert len(codebook_sizes(recipe, 400)) == recipe.levels
        assert "em-2" not in [stage.name for stage in recipe.stages]


def test_controls_have_one_id():
    """They share the model's settings."""
    with pytest.raises(ConfigError, match="controls have one id a document"):
        _last_stage_on_ids(load_recipe("recforest", ["controls=[kmeans]"]))


def test_an_unknown_setting_of_paths():
    """Found before anything is trained."""
    with pytest.raises(
        ConfigError, match="setting of paths in stage 'em-2' 'penalt'; did you mean"
    ):
        load_recipe("deep-retrieval", ["stages.em-2.before.paths.penalt=1"])
    with pytest.raises(ConfigError, match="beams is 'many'; a whole number was expected"):
        load_recipe("deep-retrieval", ["stages.em-2.before.paths.beams=many"])


# ---- objectives ---------------------------------------------------------------------------


@pytest.fixture
def batch(shop):
    """Three queries and their documents, as a step reads them."""
    data = shop.data
    return {
        "query": data.train.batch(data.pair_query[:3]),
        "item": data.items.batch(data.pair_row[:3]),
        "rows": torch.from_numpy(data.pair_row[:3]),
    }


def context_of(shop):
    from hf_genret.training.objectives import Context

    relevant = shop.data.train.queries.relevant
    return Context(shop.state.codes, 0, shop.sizes, relevant, shop.state.paths)


def path_log_probs(model, encoded, row: int, path: list[int]) -> list[float]:
    """log P of each code of a path of one query, through forward()."""
    tokens = [code + o for code, o in zip(path, model.config.level_offsets, strict=True)]
    from hf_genret.modeling import EncoderOutput

    one = EncoderOutput({name: value[row : row + 1] for name, value in encoded.items()})
    logits = model(encoder_outputs=one, decoder_input_ids=torch.tensor([[0, *tokens[:-1]]])).logits
    return [logits[0, i].log_softmax(-1)[token].item() for i, token in enumerate(tokens)]


def test_recforest_by_hand(shop, batch):
    """Cross-entropy of every tree's path without the tree's own code, the mean over trees."""
    perform(shop, {"ids": "forest"})
    model = shop.model.eval()
    terms = RecForestObjective(context_of(shop), {"item": 0.25})(model, batch)
    for name, weight, encoded in (
        ("query", 1.0, model.encode_query(**batch["query"])),
        ("item", 0.25, model.encode_items(**batch["item"])),
    ):
        losses = [
            -sum(path_log_probs(model, encoded, place, path)[1:])
            for place, row in enumerate(batch["rows"].tolist())
            for path in shop.state.paths[row].tolist()
        ]
        assert terms[name].item() == pytest.approx(weight * np.mean(losses), abs=1e-4)


def test_recforest_on_one_tree_is_cross_entropy(tiny, model_on, pairs_of):
    """Ids that are in no forest: all levels are learned."""
    model, tokenizer = model_on(tiny, codebook_sizes=[4, 3])
    data = pairs_of(tiny, model, tokenizer)
    plan = stages_from([stage("s", "recforest")])[0]
    shop = Workshop(model.eval(), data, RunState.fresh(60, 2), plan, 0)
    perform(shop, {"ids": "kmeans"})
    one = {
        "query": data.train.batch(np.arange(4)),
        "item": data.items.batch(np.arange(4)),
        "rows": torch.arange(4),
    }
    ours = RecForestObjective(context_of(shop), {})(model, one)
    theirs = CrossEntropyObjective(context_of(shop), {})(model, one)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


# ---- another's ids ------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["recforest", "deep-retrieval"])
def test_given_ids_of_one_path_are_learned(tmp_path, small_folder, recipe):
    """Ids of a checkpoint: one tree, no EM, and ids that stay as they are."""
    few = ["bag={vocab_size: 300, dim: 16}", "queries.pseudo=1", "search.beam_weights=[0.0]"]
    names = ("encoder", "ids", "final", "ranker")
    first = [f"stages.{name}.max_steps=2" for name in names]
    api.train(small_folder, "fixed", tmp_path / "ids", [*few, *first])
    settings = [*few, f"ids=checkpoint:{tmp_path / 'ids'}"]
    plan = load_recipe(recipe, settings)
    settings += [f"stages.{one.name}.max_steps=2" for one in plan.stages]
    report = api.train(small_folder, recipe, tmp_path / "out", settings)
    assert not [entry for entry in report["stages"] if "paths_moved" in entry]
    theirs, ours = (GenRetriever.from_pretrained(tmp_path / name).model for name in ("ids", "out"))
    assert (ours.config.forest, ours.config.ids_per_document) == (False, 1)
    assert torch.equal(ours.index.paths, theirs.index.paths)
    assert torch.equal(ours.index.rows, theirs.index.rows)


@pytest.mark.parametrize("recipe", ["recforest", "deep-retrieval"])
def test_documents_that_training_never_saw_get_all_ids(tmp_path, small_folder, recipe):
    """The trained model gives a new document as many as the known ones have."""
    settings = ["bag={vocab_size: 300, dim: 16}", "queries.pseudo=1", "new_documents.share=0.2"]
    plan = load_recipe(recipe)
    settings += [f"stages.{one.name}.max_steps=3" for one in plan.stages]
    api.train(small_folder, recipe, tmp_path / "out", settings)
    retriever = GenRetriever.from_pretrained(tmp_path / "out")
    counts = torch.bincount(retriever.model.index.rows)
    assert len(counts) == 80 and counts.min() > 1
    assert counts.max() == retriever.model.config.ids_per_document

"""DGI's stages from start to ids, and its recipe with all variants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from hf_genret.encoding import pooled_vectors
from hf_genret.modeling import GenRetConfig
from hf_genret.training.recipes import load_recipe, variants

STAGES: list[dict[str, Any]] = [
    {
        "name": "joint",
        "objective": "dgi",
        "train": ["adapter", "decoder", "heads", "indexer"],
        "epochs": 4,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "rates": {"adapter": 0.1},
        "before": {"codebook": "balanced"},
        "after": {"assign": "exact"},
    }
]
MODEL = {
    "head_type": "codebook",
    "decoder_inputs": "codebooks",
    "indexer": "tied",
    "indexer_scale": 0,
    "codebook_sizes": [5, 3],
}
APART = {"indexer": "rq", "indexer_similarity": "cosine", "indexer_scale": 10.0}


def stages_with(**options: Any) -> list[dict[str, Any]]:
    return [{**STAGES[0], "options": options}]


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"estimator": "hard_gumbel", "noise": "frqud"}, {}),
        ({"estimator": "hard_gumbel", "noise": "sdud"}, {}),
        ({"estimator": "detached"}, APART),
        ({}, {"normalize_codes": True}),
    ],
)
def test_a_stage_ends_with_ids_for_all(trainer_at, tmp_path, options, changes):
    """Every code in use, capacity kept, losses and disagreement in the log."""
    stages = stages_with(**options)
    trainer = trainer_at(tmp_path, stages, model={**MODEL, **changes})
    trainer.train()
    codes, facts = trainer.run.codes, trainer.run.log[0]
    assert torch.bincount(codes[:, 0]).tolist() == [12] * 5
    assert torch.bincount(codes[:, 0] * 3 + codes[:, 1]).tolist() == [4] * 15
    logged = [entry for entry in facts["history"] if "loss" in entry]
    assert {"loss_next_token", "loss_local", "disagreement_2", "tau", "used_1"} <= set(logged[0])
    assert logged[-1]["loss_next_token"] < logged[0]["loss_next_token"]
    assert len(trainer.model.index) == 60


def test_an_untied_quantizer_and_the_heads_start_alike(trainer_at, tmp_path):
    """Same centres, then two Parameters."""
    stages = [{**STAGES[0], "max_steps": 1, "learning_rate": 0.0, "after": {}}]
    trainer = trainer_at(tmp_path, stages, model={**MODEL, **APART})
    trainer.train()
    model = trainer.model
    for own, head in zip(model.indexer.codebooks, model.heads.centres, strict=True):
        assert torch.equal(own, head) and own is not head and own.abs().sum() > 0


def test_the_codebooks_start_as_a_residual_quantizer(trainer_at, tmp_path):
    """Centres of documents, then of what those leave, so that step 0 describes them already."""
    stages = [{**STAGES[0], "max_steps": 1, "learning_rate": 0.0, "after": {}}]
    trainer = trainer_at(tmp_path, stages, model=MODEL)
    trainer.train()
    model, start = trainer.model.eval(), trainer.run.start_codes
    with torch.no_grad():
        z = pooled_vectors(model, trainer.data.items)
        left = model.heads.residual(z, start)
    for code in range(5):
        mine = start[:, 0] == code
        torch.testing.assert_close(model.heads.centres[0][code], z[mine].mean(0))
    assert left.square().sum(-1).mean() < 0.8 * z.square().sum(-1).mean()


def test_a_killed_stage_goes_on_to_the_same_ids(trainer_at, tmp_path):
    """Weights, ids and the noise's moving average come back from the checkpoint."""

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    stages = stages_with(estimator="hard_gumbel", noise="frqud", momentum=0.8)
    whole = trainer_at(tmp_path / "a", stages, save_steps=2, model=MODEL)
    whole.train(resume_from_checkpoint=True)
    broken = trainer_at(tmp_path / "b", stages, save_steps=2, model=MODEL)
    broken.add_callback(Kill())
    with pytest.raises(KeyboardInterrupt):
        broken.train(resume_from_checkpoint=True)
    again = trainer_at(tmp_path / "b", stages, save_steps=2, model=MODEL)
    again.train(resume_from_checkpoint=True)
    assert torch.equal(whole.run.codes, again.run.codes)
    assert torch.equal(whole.objective.noise.use, again.objective.noise.use)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize("variant", ["", *variants("dgi")])
@pytest.mark.parametrize("task", ["text", "sequential", "general"])
def test_recipe_and_variants_are_sound(variant, task):
    """Each loads for each kind of data, with all that its name says."""
    recipe = load_recipe(f"dgi:{variant}" if variant else "dgi", task=task)
    joint = next(stage for stage in recipe.stages if stage.objective == "dgi")
    config = GenRetConfig(**{**recipe.model, "codebook_sizes": [4, 2]})
    assert joint.level == 0 and config.head_type == "codebook"
    soft = joint.options.get("estimator", "soft") == "soft"
    assert soft == (variant not in ABLATED["gradient"])
    assert (config.indexer == "tied") == (variant not in ABLATED["sharing"])
    assert (config.head_similarity == "cosine") == (variant not in ABLATED["cosine"])
    assert (config.ranking == "lexicographic") == (variant == "lexicographic")


ABLATED = {
    "gradient": {
        *("no_soft_gradient", "without_all", "straight_through", "diger", "diger_frqud"),
        "diger_sdud",
    },
    "sharing": {"no_sharing", "without_all"},
    "cosine": {"no_cosine", "without_all"},
}

"""Tables of which a step moves the rows it has read: the rule, clipping, the Trainer with it."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from torch import Tensor, nn
from transformers import TrainerCallback

from hf_genret.training import GenRetTrainer, GenRetTrainingArguments
from hf_genret.training.build import build
from hf_genret.training.curriculum import stages_from
from hf_genret.training.recipes import load_recipe
from hf_genret.training.sparse_tables import RowAdamW, clip_gradients, hindrance

ROWS, WIDTH = 12, 5


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows_at(step: int) -> Tensor:
    """Five rows of the first eight, with repetitions; rows 8 and above are never read."""
    return torch.randint(8, (5,), generator=torch.Generator().manual_seed(step))


def sparse_gradient(rows: Tensor, step: int) -> Tensor:
    values = draw(len(rows), WIDTH, seed=step)
    return torch.sparse_coo_tensor(rows[None], values, (ROWS, WIDTH), check_invariants=True)


def table() -> nn.Parameter:
    return nn.Parameter(draw(ROWS, WIDTH, seed=99))


# ---- the rule -----------------------------------------------------------------------------


def test_it_is_torch_s_sparse_adam():
    """Twenty steps on changing rows, another rate in each."""
    ours, theirs = table(), table()
    mine = RowAdamW([ours], lr=0.1, betas=(0.8, 0.95), weight_decay=0.0)
    other = torch.optim.SparseAdam([theirs], lr=0.1, betas=(0.8, 0.95))
    for step in range(20):
        for parameter, optimizer in ((ours, mine), (theirs, other)):
            parameter.grad = sparse_gradient(rows_at(step), step)
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            optimizer.step()
        torch.testing.assert_close(ours, theirs)


def test_it_is_adamw_where_every_row_is_read():
    """Decay included; a dense parameter beside it is AdamW's too."""
    parameters = [[table(), nn.Parameter(draw(3, 3))] for _ in range(2)]
    settings: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.3}
    mine = RowAdamW(parameters[0], fused=True, **settings)
    other = torch.optim.AdamW(parameters[1], **settings)
    for step in range(10):
        gradient = sparse_gradient(torch.arange(ROWS).repeat(2), step)
        parameters[0][0].grad, parameters[1][0].grad = gradient, gradient.to_dense()
        for _, dense in parameters:
            dense.grad = draw(3, 3, seed=step)
        mine.step()
        other.step()
    torch.testing.assert_close(parameters[0], parameters[1])


def test_two_steps_by_hand():
    """Algorithm 2 of AdamW for one number that is read in the first and the third step."""
    parameter = nn.Parameter(torch.tensor([[2.0], [7.0]]))
    optimizer = RowAdamW([parameter], lr=0.1, betas=(0.9, 0.99), eps=0.01, weight_decay=0.5)
    weight, first, second = 2.0, 0.0, 0.0
    for step, gradient in ((1, 3.0), (2, None), (3, -1.0)):
        row, value = (1, 5.0) if gradient is None else (0, gradient)
        parameter.grad = torch.sparse_coo_tensor([[row]], [[value]], (2, 1), check_invariants=True)
        optimizer.step()
        if gradient is not None:
            first, second = 0.9 * first + 0.1 * value, 0.99 * second + 0.01 * value**2
            size = math.sqrt(second / (1 - 0.99**step)) + 0.01
            weight -= 0.1 * 0.5 * weight
            weight -= 0.1 * first / (1 - 0.9**step) / size
        assert parameter[0, 0].item() == pytest.approx(weight, rel=1e-6)


def test_rows_that_nobody_read_stay_to_the_last_bit():
    """Weights and moments, with decay; rows that some steps pass over stay in these."""
    parameter = table()
    optimizer = RowAdamW([parameter], lr=0.1, weight_decay=0.3)
    for step in range(15):
        state = optimizer.state[parameter]
        kept = {n: v.clone() for n, v in state.items() if n != "step"} | {"": parameter.clone()}
        parameter.grad = sparse_gradient(rows_at(step), step)
        optimizer.step()
        read = torch.zeros(ROWS, dtype=torch.bool).index_fill_(0, rows_at(step), True)
        for name, before in kept.items():
            after = state[name] if name else parameter
            assert torch.equal(after[~read], before[~read]), name
            assert (after[read] != before[read]).all(), name
    assert torch.equal(parameter[8:], table()[8:])


def test_a_step_leaves_the_gradients_where_they_are():
    """And one without a gradient moves nothing."""
    parameter = table()
    optimizer = RowAdamW([parameter], lr=0.1)
    optimizer.step()
    assert torch.equal(parameter, table())
    gradient = parameter.grad = sparse_gradient(rows_at(0), 0)
    optimizer.step()
    assert parameter.grad is gradient


# ---- clipping -----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.5, 1e3, float("inf")])
def test_clipping_is_that_of_dense_gradients(limit):
    """Norm and scaled gradients; a row that was read twice counts with its sum."""
    rows = torch.tensor([3, 3, 0, 3, 7])
    ours = [table(), nn.Parameter(draw(4, 4)), nn.Parameter(draw(2))]
    theirs = [table(), nn.Parameter(draw(4, 4)), nn.Parameter(draw(2))]
    ours[0].grad = sparse_gradient(rows, 1)
    theirs[0].grad = ours[0].grad.to_dense()
    ours[1].grad, theirs[1].grad = draw(4, 4, seed=3), draw(4, 4, seed=3)
    found = clip_gradients(iter(ours), limit)
    wanted = nn.utils.clip_grad_norm_(theirs, limit)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(ours[0].grad.to_dense(), theirs[0].grad)
    torch.testing.assert_close(ours[1].grad, theirs[1].grad)


# ---- the Trainer --------------------------------------------------------------------------

RANKER: dict[str, Any] = {
    "name": "ranker",
    "objective": "ranker",
    "train": ["encoder", "ranker"],
    "max_steps": 5,
    "batch_size": 16,
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "options": {"in_batch": True, "shared": 4},
}
SMALL = [
    *("items={dim: 16, feature_dim: 0, layers: 1, heads: 2, max_length: 6}", "controls=[]"),
    *("model.decoder_dim=16", "model.decoder_layers=1", "model.codebook_sizes=[4, 4]"),
]


@pytest.fixture
def shop(sequence_data):
    """A trainer on histories of 200 items by 300 users, as a fresh process would build it."""

    def make(
        folder: Path,
        stage: dict[str, Any] | None = None,
        recipe: str = "uri-sequential",
        callbacks: list[Any] | None = None,
        **settings: Any,
    ) -> GenRetTrainer:
        start = build(load_recipe(recipe, SMALL), sequence_data, seed=0)
        plain: dict[str, Any] = {"sparse_table_rows": 150, "save_strategy": "no", "seed": 3}
        plain |= {"report_to": [], "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
        args = GenRetTrainingArguments(output_dir=str(folder), **(plain | settings))
        stages = stages_from([RANKER | (stage or {})])
        return GenRetTrainer(
            start.model, args, data=start.data, stages=stages, callbacks=callbacks or []
        )

    return make


class Gradients(TrainerCallback):
    """What the optimizer is given in every step, and which rows the model had read."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []
        self.optimizer: Any = None

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        named = kwargs["model"].named_parameters()
        self.seen.append({n: p.grad.clone() for n, p in named if p.grad is not None})
        self.optimizer = kwargs["optimizer"].optimizer


ITEMS, USERS = "encoder.items.embedding.weight", "encoder.history.embedding.weight"


def test_a_run_moves_what_it_has_read(shop, tmp_path):
    """And no other row, though weights decay."""
    watch = Gradients()
    trainer = shop(tmp_path, callbacks=[watch])
    before = trainer.model.encoder.items.embedding.weight.detach().clone()
    trainer.train()
    after = trainer.model.encoder.items.embedding.weight.detach()
    # The first step of a schedule with a warm-up has a rate of zero.
    rows = torch.cat([seen[ITEMS].coalesce().indices()[0] for seen in watch.seen[1:]])
    read = torch.zeros(200, dtype=torch.bool).index_fill_(0, rows, True)
    assert len(watch.seen) == 5 and 50 < int(read.sum()) < 200
    assert torch.equal(after[~read], before[~read])
    assert (after[read] != before[read]).any(1).all()


def test_nothing_of_it_is_left_after_a_run(shop, tmp_path):
    """The model is as it would be from a dense run, and its next optimizer is AdamW."""
    trainer = shop(tmp_path)
    trainer.train()
    assert not trainer.model.encoder.items.embedding.sparse
    assert "clip_grad_norm_" not in vars(trainer.accelerator)
    made_by, _ = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
    assert made_by is torch.optim.AdamW


@pytest.mark.parametrize("rows", [0, 200, 100_000])
def test_small_tables_learn_as_ever(shop, tmp_path, rows):
    """200 rows are not more than 200; 0 is never."""
    watch = Gradients()
    shop(tmp_path, callbacks=[watch], sparse_table_rows=rows).train()
    assert type(watch.optimizer) is torch.optim.AdamW
    assert not any(gradient.is_sparse for gradient in watch.seen[0].values())
    assert GenRetTrainingArguments(output_dir=str(tmp_path)).sparse_table_rows == 100_000


@pytest.mark.parametrize("accumulation", [1, 3])
def test_gradients_are_those_of_a_dense_run(shop, tmp_path, accumulation):
    """Clipped, and added up over the batches of a step; the norm that is logged too."""
    watches, norms = [], []
    for rows in (150, 0):
        watch = Gradients()
        trainer = shop(
            tmp_path / str(rows),
            callbacks=[watch],
            sparse_table_rows=rows,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=0.05,
        )
        trainer.train()
        watches.append(watch.seen[0])
        history = trainer.run.log[0]["history"]
        norms.append(next(entry["grad_norm"] for entry in history if "grad_norm" in entry))
    sparse, dense = watches
    assert sparse[ITEMS].is_sparse and not dense[ITEMS].is_sparse
    for name, gradient in dense.items():
        torch.testing.assert_close(sparse[name].to_dense(), gradient, rtol=1e-4, atol=1e-7)
    assert norms[0] == pytest.approx(norms[1], rel=1e-5) and norms[1] > 0.05


def test_rates_and_schedule_apply(shop, tmp_path, weights):
    """Twice the rate of half the stage's is the stage's, bit for bit; a rate of 0 stands still."""
    found = []
    stages: list[dict[str, Any]] = [
        {},
        {"learning_rate": 0.005, "rates": {"encoder": 2.0, "ranker": 2.0}},
        {"rates": {"encoder": 0.0}},
    ]
    for number, stage in enumerate(stages):
        trainer = shop(tmp_path / str(number), stage)
        start = weights(trainer.model)[ITEMS]
        trainer.train()
        found.append(weights(trainer.model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert torch.equal(found[2][ITEMS], start) and not torch.equal(found[0][ITEMS], start)


def test_a_run_that_was_killed_goes_on_to_the_same(shop, tmp_path, weights):
    """Moments and steps of the rows are in its checkpoint."""

    class Killed(RuntimeError):
        pass

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise Killed

    saving = {"save_strategy": "steps", "save_steps": 2}
    whole = shop(tmp_path / "whole", **saving)
    whole.train()
    with pytest.raises(Killed):
        shop(tmp_path / "run", callbacks=[Kill()], **saving).train()
    again = shop(tmp_path / "run", **saving)
    again.train(resume_from_checkpoint=True)
    expected = weights(whole.model)
    for name, value in weights(again.model).items():
        assert torch.equal(value, expected[name]), name


def test_the_same_weights_twice(shop, tmp_path, weights):
    """With two threads: rows that were read often add up in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trainers = [
            shop(tmp_path / name, {"batch_size": 128, "max_steps": 2}) for name in ("a", "b")
        ]
        for trainer in trainers:
            trainer.train()
    finally:
        torch.set_num_threads(threads)
    first, second = (weights(trainer.model) for trainer in trainers)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("everything", "sparse"), [(True, {USERS}), (False, {USERS, ITEMS})])
def test_a_softmax_over_all_items_reads_all_of_them(shop, tmp_path, everything, sparse):
    """Their table stays dense in such a stage; that of the users does not."""
    watch = Gradients()
    options = {"options": {"everything": everything, "in_batch": False}}
    shop(tmp_path, options, "uri-general", [watch]).train()
    assert {name for name, grad in watch.seen[0].items() if grad.is_sparse} == sparse


def test_where_it_cannot_be_a_run_says_so_once_and_is_dense(shop, tmp_path, caplog):
    """With another optimizer than AdamW, in two stages that train the table."""
    caplog.set_level(logging.WARNING)
    watch = Gradients()
    trainer = shop(tmp_path, {"max_steps": 1}, callbacks=[watch], optim="sgd")
    trainer.stages += stages_from([RANKER | {"name": "again", "max_steps": 1}])
    trainer.train()
    assert not watch.seen[0][ITEMS].is_sparse
    said = [r.getMessage() for r in caplog.records if r.name.endswith("sparse_tables")]
    assert said == [
        "Tables of more than 150 rows learn densely, every row in every step; gradients of single "
        "rows cannot be used: optim is sgd, not adamw_torch."
    ]


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "sgd"])
def test_a_table_that_does_not_learn_is_not_spoken_of(shop, tmp_path, caplog, optim):
    """A stage of the history encoder alone has torch's own optimizer, and no warning."""
    caplog.set_level(logging.WARNING)
    watch = Gradients()
    shop(tmp_path, {"train": ["history"], "max_steps": 1}, callbacks=[watch], optim=optim).train()
    assert not isinstance(watch.optimizer, RowAdamW) and ITEMS not in watch.seen[0]
    assert not [record for record in caplog.records if record.name.endswith("sparse_tables")]


@pytest.mark.parametrize(
    ("kind", "precision", "changes", "reason"),
    [
        (DistributedType.NO, "bf16", {}, None),
        (DistributedType.NO, "no", {"gradient_accumulation_steps": 4}, None),
        (DistributedType.MULTI_CPU, "no", {}, "between processes (MULTI_CPU)"),
        (DistributedType.DEEPSPEED, "bf16", {}, "between processes (DEEPSPEED)"),
        (DistributedType.NO, "fp16", {}, "fp16"),
        (DistributedType.NO, "no", {"torch_compile": True}, "torch.compile"),
    ],
)
def test_what_hinders(tmp_path, kind, precision, changes, reason):
    """Processes that exchange dense gradients, scaled gradients, compiled graphs."""
    args = GenRetTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], **changes)
    found = hindrance(args, SimpleNamespace(distributed_type=kind, mixed_precision=precision))
    assert found is None if reason is None else reason in found

"""Large tables of items and users: a step moves the rows that its batch has read, and no others."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW, Optimizer

from hf_genret.modeling import GenRetModel
from hf_genret.modeling.encoders_genret import ItemEncoder, UserEncoder
from hf_genret.training.arguments import GenRetTrainingArguments
from hf_genret.training.objectives import Objective
from hf_genret.training.processes import is_main

logger = logging.getLogger(__name__)


class SparseTables:
    """Embeddings of items and of users that are large enough to learn sparsely.

    A run that cannot have gradients of single rows says so in one warning; its tables stay dense.

    Args:
        model: Whose item and history encoders may hold such tables.
        args: Say from how many rows on (`sparse_table_rows`).
        accelerator: What the Trainer clips with.
    """

    def __init__(
        self, model: GenRetModel, args: GenRetTrainingArguments, accelerator: Accelerator
    ) -> None:
        self.items, history = model.encoder.items, model.encoder.history
        self.accelerator = accelerator
        owners = [o for o in (self.items, history) if isinstance(o, (ItemEncoder, UserEncoder))]
        least = args.sparse_table_rows
        tables = [owner.embedding for owner in owners if owner.embedding is not None]
        self.tables = [table for table in tables if 0 < least < table.num_embeddings]
        self.rows, self.reason, self._said = least, hindrance(args, accelerator), False

    @contextmanager
    def learning(self, objective: Objective) -> Iterator[None]:
        """The time of a stage: tables have gradients of the rows read, and clipping knows them.

        Args:
            objective: Of the stage; where it reads all items their table stays dense.
        """
        whole = getattr(self.items, "embedding", None) if objective.reads_all() else None
        learn = [table for table in self.tables if table.weight.requires_grad]
        tables = [table for table in learn if table is not whole]
        if tables and self.reason is not None:
            self._say_why_not()
        if not tables or self.reason is not None:
            yield
            return
        # torch's own clipping, which the Trainer reaches through here, refuses sparse gradients.
        vars(self.accelerator)["clip_grad_norm_"] = clip_gradients
        try:
            for table in tables:
                table.sparse = True
            yield
        finally:
            vars(self.accelerator).pop("clip_grad_norm_")
            for table in tables:
                table.sparse = False

    def _say_why_not(self) -> None:
        """One warning a run, however many stages train the tables."""
        if is_main() and not self._said:
            logger.warning(
                "Tables of more than %s rows learn densely, every row in every step; gradients of "
                "single rows cannot be used: %s.",
                f"{self.rows:,}",
                self.reason,
            )
        self._said = True


def hindrance(args: GenRetTrainingArguments, accelerator: Accelerator) -> str | None:
    """Why a run cannot have gradients of single rows; None where it can.

    Steps of gradient accumulation are no hindrance: rows add up as dense gradients do.
    """
    if accelerator.distributed_type is not DistributedType.NO:
        return f"they are not exchanged between processes ({accelerator.distributed_type.value})"
    if args.n_gpu > 1:
        return "one process trains on several GPUs"
    if accelerator.mixed_precision == "fp16":
        return "those of fp16 are scaled"
    if args.torch_compile:
        return "torch.compile does not know them"
    if args.optim not in ("adamw_torch", "adamw_torch_fused"):
        return f"optim is {getattr(args.optim, 'value', args.optim)}, not adamw_torch"
    return None


def for_rows(made_by: type[Optimizer], model: nn.Module | None) -> type[Optimizer]:
    """`RowAdamW` in place of AdamW where some embedding of the model has sparse gradients."""
    parts = () if model is None else model.modules()
    sparse = any(isinstance(part, nn.Embedding) and part.sparse for part in parts)
    return RowAdamW if sparse else made_by


def clip_gradients(
    parameters: Iterable[nn.Parameter], max_norm: float, norm_type: float = 2.0
) -> Tensor:
    """`torch.nn.utils.clip_grad_norm_` for gradients of which some are sparse.

    A row that a batch has read twice has one gradient, the sum; so sparse gradients are coalesced
    first, else the norm would be that of the parts.

    Args:
        parameters: Their gradients are scaled in place.
        max_norm: The norm that all of them together may have.
        norm_type: Exponent of the norm.

    Returns:
        The norm before, a scalar.
    """
    dense, rows, gradients = [], [], []
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and gradient.is_sparse:
            parameter.grad = gradient.coalesce()
            rows.append(parameter.grad.values())  # no copy: scaling it scales the gradient
        elif gradient is not None:
            dense.append(parameter)
            gradients.append(gradient)
    total = get_total_norm(gradients + rows, norm_type)
    clip_grads_with_norm_(dense, max_norm, total)
    scale = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for values in rows:
        values.mul_(scale.to(values.device))
    return total


class RowAdamW(AdamW):
    """AdamW that moves of a parameter with a sparse gradient only the rows in it.

    Rows outside the gradient keep their weights and both moments to the last bit, as with
    `torch.optim.SparseAdam`: their moments do not fade and they do not decay. The bias of the
    moments is corrected by the steps of the whole parameter. Where every row is in every gradient
    it is AdamW (Loshchilov and Hutter, 2019, Algorithm 2). Dense gradients are AdamW's, fused
    where it is.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; arguments and result as every optimizer of torch has them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moved = [
            (group, parameter, parameter.grad)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for _, parameter, _ in moved:
            parameter.grad = None  # AdamW passes over it
        super().step()
        for group, parameter, gradient in moved:
            parameter.grad = gradient
            self._move_rows(group, parameter, gradient.coalesce())
        return loss

    def _move_rows(self, group: dict[str, Any], table: Tensor, gradient: Tensor) -> None:
        """AdamW on the rows of a coalesced gradient."""
        rows, values = gradient.indices()[0], gradient.values()
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(table)
            state["exp_avg_sq"] = torch.zeros_like(table)
        state["step"] += 1
        step, (beta1, beta2), rate = float(state["step"]), group["betas"], group["lr"]
        # Rows are unique, so that nothing depends on the order in which they are written.
        first = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"].index_select(0, rows).mul_(beta2)
        second.addcmul_(values, values, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, first)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        size = second.sqrt_().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
        fresh = table.index_select(0, rows).mul_(1 - rate * group["weight_decay"])
        fresh.addcdiv_(first, size, value=-rate / (1 - beta1**step))
        table.index_copy_(0, rows, fresh)

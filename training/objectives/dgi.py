"""DGI's objective (arXiv 2603.10409): ids from a residual quantizer, read softly by the decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hf_genret.errors import ConfigError
from hf_genret.modeling import GenRetModel
from hf_genret.modeling.indexers_genret import ResidualIndexer, TiedIndexer
from hf_genret.training.objectives.base import Objective, mean_over_processes, same_pairs
from hf_genret.training.objectives.dgi_losses import (
    contrastive_loss,
    diversity_loss,
    global_loss,
    local_loss,
    next_token_loss,
)
from hf_genret.training.objectives.estimators import ESTIMATORS, NOISES, make_noise


@dataclass
class DgiOptions:
    """Settings of `DgiObjective`; the paper gives no weights, they are 1.

    Attributes:
        next_token: Weight of L_NTP.
        reconstruction: Weight of L_Global.
        local: Weight of L_Local.
        contrast: Weight of L_InfoNCE.
        diversity: Weight of L_Div.
        commitment: beta of L_Local.
        contrast_temperature: tau_CL of L_InfoNCE.
        epsilon: In the logarithm of L_Div.
        estimator: Name in `estimators.ESTIMATORS`.
        noise: Name in `estimators.NOISES`; null is the estimator's own.
        tau_start: Temperature at the beginning of the stage; null is the estimator's own.
        tau_end: Temperature at its end, reached exponentially; likewise.
        hot: With `frqud`, multiple of the mean use from which a code is hot.
        momentum: Of the moving averages of `frqud` and `sdud`.
        bias: With `sdud`, lambda.
    """

    next_token: float = 1.0
    reconstruction: float = 1.0
    local: float = 1.0
    contrast: float = 1.0
    diversity: float = 1.0
    commitment: float = 0.25
    contrast_temperature: float = 0.07
    epsilon: float = 1e-8
    estimator: str = "soft"
    noise: str | None = None
    tau_start: float | None = None
    tau_end: float | None = None
    hot: float = 1.5
    momentum: float = 0.99
    bias: float = 0.5


@dataclass
class Path:
    """What the quantizer makes of documents, one entry a level.

    Attributes:
        codes: [B], hard codes: the greatest logit without noise along the soft path.
        weights: [B, K], what stands for the choice (Eq. 6, or another estimator).
        probabilities: [B, K], its distribution.
        residuals: [B, D], what the level had to describe.
        chosen: [B, D], vectors of the hard codes.
        described: [B, D], sum of the soft vectors z~ over all levels.
    """

    codes: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)
    residuals: list[Tensor] = field(default_factory=list)
    chosen: list[Tensor] = field(default_factory=list)
    described: Tensor | None = None


class DgiObjective(Objective):
    """L_NTP + L_Global + L_Local + L_InfoNCE + L_Div, all levels at once.

    The indexer is a residual quantizer, `tied` to the heads' codebooks or with its own (`rq`). The
    decoder reads the query and the soft codes of its document, and is taught the hard ones: no
    code is hard on the way of a gradient. Logged beside the losses: the temperature `tau`, and for
    each level `disagreement_l`, the share of documents whose hard path (as they are indexed) gives
    another code than the soft one (as they are taught).
    """

    Options = DgiOptions
    options: DgiOptions

    def __init__(self, context: Any, options: dict[str, Any]) -> None:
        super().__init__(context, options)
        chosen = self.options
        if context.level:
            raise ConfigError("DGI trains all levels at once (level: 0).")
        for name, value, known in (
            ("estimator", chosen.estimator, ESTIMATORS),
            ("noise", chosen.noise or "none", NOISES),
        ):
            if value not in known:
                raise ConfigError(f"{name}={value!r} is unknown; known: {', '.join(known)}.")
        self.estimator = ESTIMATORS[chosen.estimator]()
        first, last = self.estimator.tau
        self._tau = (chosen.tau_start or first, chosen.tau_end or last)
        if min(self._tau) <= 0:
            raise ConfigError(f"tau_start and tau_end must be positive, found {self._tau}.")
        self.noise = make_noise(
            chosen.noise or self.estimator.noise,
            context.sizes[0],
            momentum=chosen.momentum,
            hot=chosen.hot,
            bias=chosen.bias,
        )

    @property
    def tau(self) -> float:
        """Temperature at this step, falling exponentially over the stage."""
        first, last = self._tau
        return float(first * (last / first) ** self.clock.progress)

    def state(self) -> dict[str, Tensor]:
        """Moving averages of the noise."""
        return self.noise.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take them back."""
        self.noise.restore(state)

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted terms `next_token`, `reconstruction`, `local`, `contrast`, `diversity`."""
        options = self.options
        queries = model.encode_query(**batch["query"])
        vectors = model.encode_items(**batch["item"]).pooler_output
        path = self.quantize(model, vectors)
        codes = torch.stack(path.codes, dim=1)  # [B, L]
        next_token = next_token_loss(model.path_logits(queries, path.weights[:-1]), codes)
        assert path.described is not None
        same = same_pairs(self.context, batch["queries"], batch["rows"])
        use = [mean_over_processes(level.mean(0)) for level in path.probabilities]
        losses = {
            "next_token": next_token,
            "reconstruction": global_loss(vectors, path.described),
            "local": local_loss(path.residuals, path.chosen, options.commitment),
            "contrast": contrastive_loss(
                queries.pooler_output, vectors, same, options.contrast_temperature
            ),
            "diversity": diversity_loss(use, options.epsilon),
        }
        self.noise.observe(next_token / codes.shape[1])
        self._report(model, vectors, codes)
        return {name: getattr(options, name) * loss for name, loss in losses.items()}

    def quantize(self, model: GenRetModel, vectors: Tensor) -> Path:
        """The quantizer's soft path (Eq. 6 to 8) for documents' vectors [B, D]."""
        quantizer = model.indexer
        if not isinstance(quantizer, (ResidualIndexer, TiedIndexer)):
            raise ConfigError("DGI needs a residual quantizer (model.indexer: tied or rq).")
        path, residual, described = Path(), vectors, torch.zeros_like(vectors)
        for level, codebook in enumerate(quantizer.tables(model.heads)):
            logits = quantizer.level_logits(level, vectors, path.weights, model.heads)  # [B, K]
            codes = logits.argmax(-1)
            noisy = (logits + self.noise(level, logits)) / self.tau
            probabilities = noisy.softmax(-1)
            weights = self.estimator(probabilities, codes)
            path.codes.append(codes)
            path.weights.append(weights)
            path.probabilities.append(probabilities)
            path.residuals.append(residual)
            path.chosen.append(functional.embedding(codes, codebook))
            soft = weights @ codebook  # z~, [B, D]
            residual, described = residual - soft, described + soft
        path.described = described
        return path

    @torch.no_grad()
    def _report(self, model: GenRetModel, vectors: Tensor, codes: Tensor) -> None:
        """Note temperature, use of codes, and where indexing would choose otherwise."""
        self.note("tau", torch.tensor(self.tau))
        hard = torch.empty_like(codes[:, :0])
        for level in range(codes.shape[1]):
            self.count(level + 1, codes[:, level])
            logits = model.indexer.level_logits(level, vectors, hard, model.heads)
            hard = torch.cat([hard, logits.argmax(-1, keepdim=True)], dim=1)
            differs = (hard[:, level] != codes[:, level]).float().mean()
            self.note(f"disagreement_{level + 1}", differs)

"""ASI and ASI++ (arXiv 2310.12455 and 2405.14280): an indexer beside the decoder, trained with it.

Queries and documents go through the same indexer; a document's id is what the indexer says, and the
decoder learns to write it for the query. All levels train at once (`level: 0`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hf_genret.errors import ConfigError
from hf_genret.indexing.sinkhorn import sinkhorn
from hf_genret.modeling import EncoderOutput, GenRetModel
from hf_genret.training.objectives import asi_losses as losses
from hf_genret.training.objectives.base import Objective, same_pairs, straight_through


@dataclass
class AsiOptions:
    """Settings of `AsiObjective`.

    Attributes:
        contrastive: Weight of L_c, the margin between ids (Eq. 1).
        generation: Weight of L_CE, the decoder's cross-entropy on the indexer's ids (Eq. 2).
        reverse: Weight of the sequence-oriented reverse cross-entropy: a query's id keeps away
            from those of irrelevant documents.
        quantization: Weight of |e - e^q|^2, for indexers with codebooks (pq, rq).
        margin: alpha as a share of the number of levels (the paper's 3 at L = 4).
        through: Share of L_CE's gradient that reaches the indexer by straight-through codes, which
            are the decoder's targets and inputs; 1 as published, 0 makes ids constants to it.
        form: Reading of reverse cross-entropy: `reverse` or `bounded`.
        epsilon: Softness of Sinkhorn's probabilities on distances, for pq and rq.
        iterations: Sinkhorn's; 0 takes a plain softmax.
        balance: Softness of Sinkhorn's probabilities on the logits of other indexers; 0 takes a
            plain softmax, as published.
    """

    contrastive: float = 1.0
    generation: float = 1.0
    reverse: float = 1.0
    quantization: float = 1.0
    margin: float = 0.75
    through: float = 1.0
    form: str = "reverse"
    epsilon: float = 0.003
    iterations: int = 100
    balance: float = 0.0


@dataclass
class AsiPlusOptions(AsiOptions):
    """Settings of `AsiPlusObjective`; the paper's constants are the defaults.

    Attributes:
        reverse: As in `AsiOptions`; L_di takes its place.
        density: Weight of L_di (Eq. 5).
        density_reading: `close` pushes close pairs more, `far` distant ones, `literal` is Eq. 5 as
            printed, which pulls ids together.
        bottleneck: Weight of L_bot (Eq. 6).
        gamma: Weight of 1 / D within L_bot.
        temperature: Of L_bot's InfoNCE on unit vectors; the paper states none (1 taken literally).
        information: Weight of L_ib (Eq. 9), the paper's beta.
        of_queries: Whether L_ib is taken of queries as well as of documents, which alone the paper
            names; with a frozen encoder only the queries' adapter can move.
        sigma: Spread of a document's density in L_ib.
        ramp_start: lambda, the common weight of the three, before the first step.
        ramp_end: lambda after `ramp_epochs`.
        ramp_epochs: Length of its linear rise.
    """

    reverse: float = 0.0
    density: float = 1.0
    density_reading: str = "close"
    bottleneck: float = 1.0
    gamma: float = 0.05
    temperature: float = 0.05
    information: float = 0.01
    of_queries: bool = False
    sigma: float = 0.1
    ramp_start: float = 0.01
    ramp_end: float = 0.25
    ramp_epochs: float = 1.0


@dataclass
class Ids:
    """What the indexer says of B queries or documents.

    Attributes:
        log_p: Log-probabilities [B, K_l], one a level.
        codes: [B, L], the most probable ones.
    """

    log_p: list[Tensor]
    codes: Tensor

    @property
    def p(self) -> list[Tensor]:
        """Probabilities, one [B, K_l] a level."""
        return [level.exp() for level in self.log_p]


@dataclass
class Pairs:
    """One batch on its way through the terms.

    Attributes:
        query: Encoded queries.
        item: Their positive documents, encoded.
        query_ids: The queries' ids.
        item_ids: The documents' ids.
        same: [B, B] bool, which documents are relevant to which queries.
    """

    query: EncoderOutput
    item: EncoderOutput
    query_ids: Ids
    item_ids: Ids
    same: Tensor

    @property
    def queries_apart(self) -> Tensor:
        """[B, B] bool: queries that share no relevant document of the batch."""
        return (self.same.float() @ self.same.float().T) == 0

    @property
    def items_apart(self) -> Tensor:
        """[B, B] bool: documents that no query of the batch wants together."""
        return (self.same.float().T @ self.same.float()) == 0


class AsiObjective(Objective):
    """L_c + L_CE + the reverse cross-entropy, with straight-through codes."""

    Options: ClassVar[type] = AsiOptions
    options: AsiOptions

    def __init__(self, context: Any, options: dict[str, Any]) -> None:
        super().__init__(context, options)
        _known(self.options.form, losses.REPULSIONS, "form")

    def __call__(self, model: GenRetModel, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted terms `contrastive`, `generation`, `reverse`; with codebooks `quantization`.

        A term of weight 0 is left out.
        """
        pairs = self._pairs(model, batch)
        options = self.options
        terms = {}
        if options.contrastive:
            alpha = options.margin * len(self.context.sizes)
            terms["contrastive"] = options.contrastive * losses.contrastive_margin(
                pairs.query_ids.p, pairs.item_ids.p, pairs.same, alpha
            )
        if options.generation:
            terms["generation"] = options.generation * self._generation(model, pairs)
        if options.reverse:
            away = losses.repulsion(pairs.query_ids.log_p, pairs.item_ids.codes, options.form)
            terms["reverse"] = options.reverse * losses.masked_mean(away, ~pairs.same)
        if options.quantization and hasattr(model.indexer, "reconstruct"):
            reconstructed = model.indexer.reconstruct(pairs.item_ids.codes)
            terms["quantization"] = options.quantization * losses.quantization(
                pairs.item.pooler_output, reconstructed
            )
        return {**terms, **self._criteria(pairs)}

    def _criteria(self, pairs: Pairs) -> dict[str, Tensor]:
        """Further weighted terms; none for ASI."""
        del pairs
        return {}

    def _pairs(self, model: GenRetModel, batch: dict[str, Any]) -> Pairs:
        """Encode a batch and let the indexer give ids to both sides."""
        query = model.encode_query(**batch["query"])
        item = model.encode_items(**batch["item"])
        query_ids, item_ids = self._ids(model, query, item)
        for level in range(item_ids.codes.shape[1]):
            self.count(level + 1, item_ids.codes[:, level])
        same = same_pairs(self.context, batch["queries"], batch["rows"])
        return Pairs(query, item, query_ids, item_ids, same)

    def _ids(
        self, model: GenRetModel, query: EncoderOutput, item: EncoderOutput
    ) -> tuple[Ids, Ids]:
        """Ids of queries and documents; the codes before a level are the most probable ones."""
        batch = len(query.pooler_output)
        log_p: list[Tensor] = []
        codes = torch.zeros(2 * batch, 0, dtype=torch.long, device=query.pooler_output.device)
        for _ in self.context.sizes:
            logits = torch.cat(
                [
                    model.index_logits(query, codes[:batch]),
                    model.index_logits(item, codes[batch:]),
                ]
            )
            log_p.append(self._log_probabilities(model, logits))
            codes = torch.cat([codes, log_p[-1].argmax(-1, keepdim=True)], dim=1)
        return (
            Ids([level[:batch] for level in log_p], codes[:batch]),
            Ids([level[batch:] for level in log_p], codes[batch:]),
        )

    def _log_probabilities(self, model: GenRetModel, logits: Tensor) -> Tensor:
        """Softmax, or with codebooks Sinkhorn's balanced probabilities of distances [2B, K]."""
        options = self.options
        if hasattr(model.indexer, "codebooks"):
            scores, epsilon = logits / model.indexer.scale.detach(), options.epsilon
        else:
            scores, epsilon = logits, options.balance
        if not epsilon or not options.iterations:
            return logits.log_softmax(-1)
        p = sinkhorn(scores, epsilon=epsilon, iterations=options.iterations)
        return p.clamp(min=1e-12).log()

    def _generation(self, model: GenRetModel, pairs: Pairs) -> Tensor:
        """L_CE on the documents' codes, straight-through or constant."""
        through = self.options.through
        p = [through * level + (1 - through) * level.detach() for level in pairs.item_ids.p]
        y = [straight_through(level) for level in p]
        logits = model.path_logits(pairs.query, pairs.item_ids.codes, read=y)
        return losses.generation(logits, y)


class AsiPlusObjective(AsiObjective):
    """L_c + L_CE + lambda (L_di + L_bot + L_ib), lambda rising over the first epoch."""

    Options: ClassVar[type] = AsiPlusOptions
    options: AsiPlusOptions

    def __init__(self, context: Any, options: dict[str, Any]) -> None:
        super().__init__(context, options)
        _known(self.options.density_reading, ("close", "far", "literal"), "density_reading")

    def _criteria(self, pairs: Pairs) -> dict[str, Tensor]:
        """`density`, `bottleneck` and `information`, each times its weight and lambda."""
        options = self.options
        common = losses.ramp(
            self.clock.epoch, options.ramp_start, options.ramp_end, options.ramp_epochs
        )
        queries = functional.normalize(pairs.query.pooler_output, dim=-1)
        items = functional.normalize(pairs.item.pooler_output, dim=-1)
        terms = {}
        if options.density:
            terms["density"] = options.density * (
                self._density(pairs.item_ids, pairs.items_apart)
                + self._density(pairs.query_ids, pairs.queries_apart)
            )
        if options.bottleneck:
            crowded = losses.crowding(items, pairs.items_apart)
            crowded = crowded + losses.crowding(queries, pairs.queries_apart)
            nearer = losses.info_nce(queries, items, pairs.same, options.temperature)
            terms["bottleneck"] = options.bottleneck * (nearer + options.gamma * crowded)
        if options.information:
            sides = [items, queries] if options.of_queries else [items]
            found = [losses.information(vectors, options.sigma) for vectors in sides]
            terms["information"] = options.information * torch.stack(found).mean()
        return {name: common * value for name, value in terms.items()}

    def _density(self, ids: Ids, apart: Tensor) -> Tensor:
        """L_di of documents or of queries, as the option reads it."""
        options = self.options
        if options.density_reading == "literal":
            return losses.literal_density(ids.log_p, ids.codes, apart)
        return losses.density(ids.log_p, ids.codes, apart, options.form, options.density_reading)


def _known(value: str, known: Any, name: str) -> None:
    """Refuse a setting that names nothing."""
    if value not in known:
        raise ConfigError(f"{name}={value!r} is unknown; known: {', '.join(known)}.")

"""log P(document | query) over all documents: what a search only looks at the best of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_genret.data.schema import Queries
from hf_genret.encoding import QuerySource, encode
from hf_genret.modeling import DocidIndex, EncoderOutput, GenRetModel
from hf_genret.modeling.index_genret import ragged

_CELLS = 2**24
"""Elements of the largest block held at once, 64 MB of float32."""


@dataclass
class Posterior:
    """What a generative model says of every document.

    Attributes:
        log_p: [Q, N] float32, log P(document | query): the sum over levels of log-probabilities
            among the codes that exist after a prefix, a bucket's mass shared evenly among its
            documents, -inf for a document without an id. Sums to one over documents.
        leaked: [Q] float64, what the softmax over all codes of each level puts on ids that do not
            exist, from 0 to 1; None where it was not asked for.
        free_log_p: [Q, N] float32, as `log_p` with that softmax, so that each row sums to
            1 - leaked; None where it was not asked for.
    """

    log_p: np.ndarray
    leaked: np.ndarray | None = None
    free_log_p: np.ndarray | None = None


def generative_posterior(
    model: GenRetModel,
    processing_class: PreTrainedTokenizerBase | None,
    queries: Queries,
    *,
    source: QuerySource | None = None,
    batch_size: int = 32,
    free: bool = True,
) -> Posterior:
    """The whole distribution over documents, no beam search.

    The decoder reads every prefix that exists, once a query: a pass over the longest prefixes has
    the states of all shorter ones, too. A document with several ids has their probabilities added.

    Args:
        model: With an index.
        processing_class: Tokenizer, where the model reads text.
        queries: Q queries.
        source: The same queries as the model reads them, where there is one already.
        batch_size: Queries encoded at once; prefixes are cut so that memory stays bounded.
        free: Whether to compute `leaked` and `free_log_p` as well. Without them a prefix that one
            code alone can follow need not be read; ids of many levels are mostly such prefixes.

    Returns:
        Distributions over N = `config.num_documents` documents.

    Raises:
        ValueError: When the index is empty, or the queries carry nothing that the model reads.
    """
    if len(model.index) == 0:
        raise ValueError("The id index is empty; index documents before asking for probabilities.")
    source = QuerySource(model, queries, processing_class) if source is None else source
    shape = len(source), model.config.num_documents
    found = Posterior(log_p=np.zeros(shape, dtype=np.float32))
    if free:
        found.leaked, found.free_log_p = np.zeros(len(source)), np.zeros_like(found.log_p)
    trie = _Trie(model, free)
    steps = encode(model, source, batch_size=batch_size, description="Probabilities")
    for numbers, encoded in steps:
        among, *others = trie.leaves(encoded)
        found.log_p[numbers] = trie.documents(among)
        if found.leaked is not None and found.free_log_p is not None:
            left = 1.0 - others[0].double().exp().sum(1)
            found.leaked[numbers] = left.clamp(0.0, 1.0).cpu().numpy()
            found.free_log_p[numbers] = trie.documents(others[0])
    return found


def dense_scores(
    model: GenRetModel,
    processing_class: PreTrainedTokenizerBase | None,
    queries: Queries,
    *,
    source: QuerySource | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """The ranker's logits of every document: its scale times the similarity.

    Args:
        model: With ranker vectors.
        processing_class: Tokenizer, where the model reads text.
        queries: Q queries.
        source: The same queries as the model reads them, where there is one already.
        batch_size: Queries encoded at once.

    Returns:
        [Q, N] float32; its softmax over documents is what the ranker's loss approximates.

    Raises:
        ValueError: When there are no vectors, or the queries carry nothing that the model reads.
    """
    source = QuerySource(model, queries, processing_class) if source is None else source
    vectors = model.vectors
    scores = np.zeros((len(source), len(vectors)), dtype=np.float32)
    chunk = max(1, _CELLS // max(batch_size, vectors.shape[1]))
    for numbers, encoded in encode(model, source, batch_size=batch_size, description="Scores"):
        pooled = encoded.pooler_output
        for first in range(0, len(vectors), chunk):
            part = vectors[first : first + chunk].to(pooled.device, pooled.dtype)
            logits = model.ranker(pooled, part).float().cpu().numpy()
            scores[numbers, first : first + len(part)] = logits
    return scores


class _Pass:
    """Prefixes of one length that the decoder reads, and the nodes whose logits it then gives.

    Args:
        index: The ids.
        level: Codes of each prefix.
        node: [n], nodes of that level, rising.
        needed: For each level whether a node's logits are still needed, bool [nodes]; those that
            this pass gives are taken out.
    """

    def __init__(self, index: DocidIndex, level: int, node: Tensor, needed: list[Tensor]) -> None:
        self.level = level
        path = node
        for lower in range(level, index.num_levels):
            path = index.level(lower)[0].long()[path]
        self.prefixes = index.paths[index.buckets.long()[path], :level].long()  # [n, level]
        # For each level nodes [m] that prefixes go through, and the first prefix of each.
        self.through: list[tuple[Tensor, Tensor]] = []
        for upper in reversed(range(level + 1)):
            if upper < level:  # the parents
                node = torch.searchsorted(index.level(upper)[0].long(), node, right=True) - 1
            place = (node.diff(prepend=node.new_tensor([-1])) > 0) & needed[upper][node]
            place = place.nonzero()[:, 0]
            needed[upper][node] = False
            self.through.insert(0, (node[place], place))


class _Trie:
    """All ids of an index, level by level.

    Args:
        model: With the index.
        free: Whether the softmax over all codes of a level is needed, too.
    """

    def __init__(self, model: GenRetModel, free: bool) -> None:
        self.model, self.index, self.free = model, model.index, free
        ends = [self.index.level(level)[0].long() for level in range(self.index.num_levels)]
        # The node that each edge starts from; edges of a level are the nodes of the next.
        self.parents = [
            torch.repeat_interleave(torch.arange(len(end) - 1, device=end.device), end.diff())
            for end in ends
        ]
        # Where one code alone exists it is certain.
        needed = [(end.diff() > 1) | free for end in ends]
        self.passes = []
        for level in reversed(range(self.index.num_levels)):
            node = needed[level].nonzero()[:, 0]
            if len(node):
                self.passes.append(_Pass(self.index, level, node, needed))
        rows = self.index.rows.long().cpu().numpy()
        self.order = np.argsort(rows, kind="stable")  # a document's ids side by side
        self.rows, self.starts = np.unique(rows[self.order], return_index=True)

    def leaves(self, encoded: EncoderOutput) -> Tensor:
        """Log-probability of every id, [1 or 2, B, leaves].

        The first is among the codes that exist after each prefix, the second among all codes.
        """
        kinds, batch, device = 1 + self.free, *encoded.pooler_output.shape[:1], self.model.device
        steps = [torch.zeros(kinds, batch, len(parent), device=device) for parent in self.parents]
        for reading in self.passes:
            for level, node, logits in self._logits(encoded, reading):
                place, edge = ragged(*self.index.edges(level, node))
                steps[level][:, :, edge] = self._log_softmax(level, place, edge, logits)
        total = torch.zeros(kinds, batch, 1, device=device)
        for parent, step in zip(self.parents, steps, strict=True):
            total = total.index_select(2, parent) + step
        return total

    def documents(self, leaves: Tensor) -> np.ndarray:
        """Log-probabilities of ids [B, leaves] -> of documents [B, N]."""
        sizes = self.index.buckets.long().diff()  # documents of each leaf
        shared = leaves - sizes.to(leaves.dtype).log()
        paths = shared.index_select(1, self.index.leaf_of_path()).cpu().numpy()[:, self.order]
        if len(self.starts) < paths.shape[1]:
            paths = np.logaddexp.reduceat(paths, self.starts, axis=1)
        out = np.full((len(paths), self.model.config.num_documents), -np.inf, dtype=np.float32)
        out[:, self.rows] = paths
        return out

    def _logits(
        self, encoded: EncoderOutput, reading: _Pass
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Levels, nodes [m] and their logits [B, m, K], as many at once as fit in memory."""
        model, batch = self.model, len(encoded.pooler_output)
        for first, last in self._chunks(reading, batch):
            prefixes, count = reading.prefixes[first:last], last - first
            beams = EncoderOutput(
                last_hidden_state=encoded.last_hidden_state,  # shared by a query's prefixes
                pooler_output=encoded.pooler_output.repeat_interleave(count, dim=0),
                attention_mask=encoded.attention_mask,
            )
            states = model.path_states(beams, prefixes.repeat(batch, 1))
            states = states.unflatten(0, (batch, count))
            for level, (node, place) in enumerate(reading.through):
                here = (place >= first) & (place < last)
                node, place = node[here], place[here] - first
                if len(node):
                    seen = states[:, place, level].flatten(0, 1)
                    vectors = encoded.pooler_output.repeat_interleave(len(node), dim=0)
                    known = prefixes[place, :level].repeat(batch, 1)
                    logits = model.code_logits(level, seen, vectors, known).float()
                    yield level, node, logits.unflatten(0, (batch, -1))

    def _chunks(self, reading: _Pass, batch: int) -> Iterator[tuple[int, int]]:
        """Ranges of prefixes whose blocks fit in memory."""
        config, codes = self.model.config, max(self.model.config.codebook_sizes)
        # States of a feed-forward layer, logits, and the centres of a node's children.
        width = max(4 * config.decoder_dim * (reading.level + 1), codes)
        if config.head_type == "cluster":
            width = max(width, codes * config.vector_dim // 4)
        size = max(1, _CELLS // (batch * width))
        for first in range(0, len(reading.prefixes), size):
            yield first, min(first + size, len(reading.prefixes))

    def _log_softmax(self, level: int, place: Tensor, edge: Tensor, logits: Tensor) -> Tensor:
        """Log-probabilities of edges [E] from nodes at some places of logits: [1 or 2, B, E]."""
        code = self.index.level(level)[1][edge].long()
        exists = torch.zeros(logits.shape[1:], dtype=torch.bool, device=logits.device)
        exists[place, code] = True
        chosen = logits[:, place, code]
        norms = [logits.masked_fill(~exists, -torch.inf).logsumexp(-1)]
        if self.free:
            norms.append(logits.logsumexp(-1))
        return torch.stack([chosen - norm[:, place] for norm in norms])

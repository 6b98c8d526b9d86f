"""log P(document | query) over all documents: what a search only looks at the best of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from hf_genret.data.schema import Queries
from hf_genret.encoding import QuerySource, encode
from hf_genret.modeling import EncoderOutput, GenRetModel

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
            exist, from 0 to 1.
        free_log_p: [Q, N] float32, as `log_p` with that softmax, so that each row sums to
            1 - leaked; None where it was not asked for.
    """

    log_p: np.ndarray
    leaked: np.ndarray
    free_log_p: np.ndarray | None = None


def generative_posterior(
    model: GenRetModel,
    processing_class: PreTrainedTokenizerBase | None,
    queries: Queries,
    *,
    source: QuerySource | None = None,
    batch_size: int = 32,
    keep_free: bool = False,
) -> Posterior:
    """The whole distribution over documents, no beam search.

    Every prefix that exists is read by the decoder once a query: a pass over the longest prefixes
    has the states of all shorter ones, too. A document with several ids has their probabilities
    added.

    Args:
        model: With an index.
        processing_class: Tokenizer, where the model reads text.
        queries: Q queries.
        source: The same queries as the model reads them, where there is one already.
        batch_size: Queries encoded at once; prefixes are cut so that memory stays bounded.
        keep_free: Whether to keep `free_log_p`, as large again as `log_p`.

    Returns:
        Distributions over N = `config.num_documents` documents.

    Raises:
        ValueError: When the index is empty, or the queries carry nothing that the model reads.
    """
    if len(model.index) == 0:
        raise ValueError("The id index is empty; index documents before asking for probabilities.")
    source = QuerySource(model, queries, processing_class) if source is None else source
    shape = len(source), model.config.num_documents
    found = Posterior(
        log_p=np.full(shape, -np.inf, dtype=np.float32),
        leaked=np.zeros(len(source)),
        free_log_p=np.full(shape, -np.inf, dtype=np.float32) if keep_free else None,
    )
    trie = _Trie(model)
    steps = encode(model, source, batch_size=batch_size, description="Probabilities")
    for numbers, encoded in steps:
        among_children, among_all = trie.leaves(encoded)
        found.leaked[numbers] = (1.0 - among_all.double().exp().sum(1)).clamp(0.0, 1.0).cpu()
        found.log_p[numbers] = trie.documents(among_children)
        if found.free_log_p is not None:
            found.free_log_p[numbers] = trie.documents(among_all)
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


class _Trie:
    """All prefixes of an index, by the longest ones (of L - 1 codes), in lexicographic order."""

    def __init__(self, model: GenRetModel) -> None:
        self.model, self.index = model, model.index
        last = self.index.num_levels - 1
        pointers = [self.index.level(level)[0].long() for level in range(last + 1)]
        first_path = self.index.buckets.long()[pointers[last][:-1]]
        self.prefixes = self.index.paths[first_path, :last].long()  # [nodes of level L - 1, L - 1]
        # The node of each shorter length that a longest prefix goes through.
        above = [torch.arange(len(self.prefixes), device=self.prefixes.device)]
        for level in reversed(range(last)):
            above.append(torch.searchsorted(pointers[level], above[-1], right=True) - 1)
        self.through, self.pointers = above[::-1], pointers
        # Whether it is the first that goes through that node.
        self.opens = [functional.pad(nodes.diff(), (1, 0), value=1) > 0 for nodes in self.through]
        # The node that each edge starts from; edges of a level are the nodes of the next.
        self.parents = [
            torch.repeat_interleave(torch.arange(len(ends) - 1, device=ends.device), ends.diff())
            for ends in pointers
        ]
        rows = self.index.rows.long().cpu().numpy()
        self.leaf = self.index.leaf_of_path()  # [P]
        self.order = np.argsort(rows, kind="stable")  # a document's ids side by side
        self.rows, self.starts = np.unique(rows[self.order], return_index=True)

    def leaves(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Log-probability of every id, two of [B, leaves].

        The first is among the codes that exist after each prefix, the second among all codes.
        """
        batch, device = len(encoded.pooler_output), encoded.pooler_output.device
        steps = [torch.zeros(2, batch, len(parent), device=device) for parent in self.parents]
        for first, last in self._chunks(batch):
            for level, nodes, logits in self._logits(encoded, first, last):
                edges = slice(*self.pointers[level][[nodes.start, nodes.stop]].tolist())
                steps[level][:, :, edges] = self._log_softmax(level, nodes, edges, logits)
        total = torch.zeros(2, batch, 1, device=device)
        for parent, step in zip(self.parents, steps, strict=True):
            total = total.index_select(2, parent) + step
        return total[0], total[1]

    def documents(self, leaves: Tensor) -> np.ndarray:
        """Log-probabilities of ids [B, leaves] -> of documents [B, N]."""
        sizes = self.index.buckets.long().diff()  # documents of each leaf
        shared = leaves - sizes.to(leaves.dtype).log()
        paths = shared.index_select(1, self.leaf).cpu().numpy()[:, self.order]
        if len(self.starts) < paths.shape[1]:
            paths = np.logaddexp.reduceat(paths, self.starts, axis=1)
        out = np.full((len(paths), self.model.config.num_documents), -np.inf, dtype=np.float32)
        out[:, self.rows] = paths
        return out

    def _chunks(self, batch: int) -> Iterator[tuple[int, int]]:
        """Ranges of longest prefixes whose blocks fit in memory."""
        config = self.model.config
        # A feed-forward layer's states, a level's logits, the centres of a node's children.
        width = max(4 * config.decoder_dim * config.num_levels, max(config.codebook_sizes))
        if config.head_type == "cluster":
            width = max(width, max(config.codebook_sizes) * config.vector_dim // 4)
        size = max(1, _CELLS // (batch * width))
        for first in range(0, len(self.prefixes), size):
            yield first, min(first + size, len(self.prefixes))

    def _logits(
        self, encoded: EncoderOutput, first: int, last: int
    ) -> Iterator[tuple[int, slice, Tensor]]:
        """Levels, nodes and their logits [B, nodes, K]; each node in the chunk it begins in."""
        model, batch = self.model, len(encoded.pooler_output)
        prefixes, count = self.prefixes[first:last], last - first
        codes = prefixes.repeat(batch, 1)  # the prefixes of a query side by side
        beams = EncoderOutput(
            last_hidden_state=encoded.last_hidden_state,  # shared by them
            pooler_output=encoded.pooler_output.repeat_interleave(count, dim=0),
            attention_mask=encoded.attention_mask,
        )
        states = model.path_states(beams, codes).unflatten(0, (batch, count))
        for level, through in enumerate(self.through):
            place = self.opens[level][first:last].nonzero()[:, 0]
            if not len(place):
                continue
            start = int(through[first + int(place[0])])
            seen = states[:, place, level].flatten(0, 1)
            vectors = encoded.pooler_output.repeat_interleave(len(place), dim=0)
            known = prefixes[place, :level].repeat(batch, 1)
            logits = model.heads(level, seen, vectors, known).float()
            yield level, slice(start, start + len(place)), logits.unflatten(0, (batch, -1))

    def _log_softmax(self, level: int, nodes: slice, edges: slice, logits: Tensor) -> Tensor:
        """Log-probabilities of edges, among children and among all codes: [2, B, edges]."""
        parent = self.parents[level][edges] - nodes.start
        code = self.index.level(level)[1][edges].long()
        exists = torch.zeros(logits.shape[1:], dtype=torch.bool, device=logits.device)
        exists[parent, code] = True
        chosen = logits[:, parent, code]
        children = logits.masked_fill(~exists, -torch.inf).logsumexp(-1)
        return torch.stack([chosen - children[:, parent], chosen - logits.logsumexp(-1)[:, parent]])

"""What others constrain a search with, brought to one form: a step a level over the same rows."""

from __future__ import annotations

import torch
from transformers.generation import PrefixConstrainedLogitsProcessor


class DictTrie:
    """Ids as nested dictionaries, what users write today."""

    def __init__(self, ids):
        self.root = {}
        for path in ids.tolist():
            node = self.root
            for code in path:
                node = node.setdefault(code, {})

    def after(self, prefix):
        node = self.root
        for code in prefix:
            node = node.get(code, {})
        return list(node)


def dict_processor(ids, beams):
    """transformers' processor over nested dictionaries."""
    trie = DictTrie(ids)
    return PrefixConstrainedLogitsProcessor(
        lambda batch_id, sequence: trie.after(sequence.tolist()), num_beams=beams
    )


def marisa_processor(ids, beams):
    """transformers' processor over marisa-trie; None where that is not installed."""
    try:
        from marisa_trie import Trie
    except ImportError:
        return None
    trie = Trie("".join(map(chr, path)) for path in (ids + 1).tolist())

    def after(prefix):
        start = "".join(chr(code + 1) for code in prefix)
        return sorted({ord(key[len(start)]) - 1 for key in trie.keys(start)})

    return PrefixConstrainedLogitsProcessor(
        lambda batch_id, sequence: after(sequence.tolist()), num_beams=beams
    )


class Static:
    """STATIC's torch code (static_decoding, Google) where it is installed beside; two dense levels.

    Args:
        ids: [P, L], sorted.
        size: K.
    """

    DENSE = 2

    def __init__(self, ids, size):
        from static_decoding.csr_utils import build_static_index

        built = build_static_index(ids.numpy().astype("int32"), size, self.DENSE)
        csr, indptr, self.widest, start, dense, states = built
        self.csr, self.indptr = torch.from_numpy(csr), torch.from_numpy(indptr)
        self.start, self.dense = torch.from_numpy(start), torch.from_numpy(dense)
        self.states, self.size = torch.from_numpy(states), size
        self.nothing = torch.tensor(-torch.inf)

    def states_of(self, chosen):
        """The state of each row at each level beyond the dense ones, from its codes [R, L]."""
        first, second = chosen[:, 0].long(), chosen[:, 1].long()
        found = [self.states[first, second]]
        for level in range(self.DENSE, chosen.shape[1] - 1):
            scores = torch.zeros(len(chosen), self.size)
            _, codes, following = self.sparse(level, found[-1], scores)
            hit = (codes == chosen[:, level : level + 1]).int().argmax(1)
            found.append(following[torch.arange(len(chosen)), hit])
        return found

    def sparse(self, level, states, scores):
        """Their step on a sparse level."""
        from static_decoding.decoding_pt import generate_and_apply_logprobs_mask as step

        return step(
            *(scores, states, self.csr, self.indptr, self.widest[level], self.size),
            device=scores.device,
        )

    def steps(self, chosen, scores):
        """Their mask of every level for rows [R, L]."""
        first, states = chosen[:, 0].long(), self.states_of(chosen)

        def run():
            torch.where(self.start, scores, self.nothing)
            torch.where(self.dense[first], scores, self.nothing)
            for level, state in enumerate(states, self.DENSE):
                self.sparse(level, state, scores)

        return run


def static_over(ids, size):
    """STATIC over ids; None where it is not installed."""
    try:
        import static_decoding  # noqa: F401
    except ImportError:
        return None
    return Static(ids, size)

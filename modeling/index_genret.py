"""The id index: which ids exist, which document each names, and one CSR a level to walk them.

Nodes of a level are numbered in lexicographic order of their prefixes, so that the position of an
edge in its level's `codes` *is* the number of the child: no next-state array is needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .configuration_genret import GenRetConfig


class DocidIndex(nn.Module):
    """Ids and buckets as integer buffers, saved in model.safetensors.

    Buffers: `paths` [P, L] sorted lexicographically, `rows` [P] the document of each path,
    `buckets` [leaves + 1] where each leaf's paths start, and for each level `indptr_l`
    [nodes + 1] and `codes_l` [edges].
    """

    paths: Tensor
    rows: Tensor
    buckets: Tensor

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        self.sizes = list(config.codebook_sizes)
        nodes = [1, *config.num_nodes] if config.num_paths else [0] * (len(self.sizes) + 1)
        empty = torch.zeros
        self.register_buffer("paths", empty(config.num_paths, len(self.sizes), dtype=torch.int32))
        self.register_buffer("rows", empty(config.num_paths, dtype=torch.int64))
        self.register_buffer("buckets", empty(nodes[-1] + 1, dtype=torch.int64))
        for level in range(len(self.sizes)):
            self.register_buffer(f"indptr_{level}", empty(nodes[level] + 1, dtype=torch.int32))
            self.register_buffer(f"codes_{level}", empty(nodes[level + 1], dtype=torch.int32))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.sizes)

    @property
    def num_nodes(self) -> list[int]:
        """Nodes at each level 1..L."""
        return [len(getattr(self, f"codes_{level}")) for level in range(self.num_levels)]

    def level(self, level: int) -> tuple[Tensor, Tensor]:
        """(indptr [nodes + 1], codes [edges]) of a level, from 0."""
        return getattr(self, f"indptr_{level}"), getattr(self, f"codes_{level}")

    @torch.no_grad()
    def build(self, codes: Tensor, rows: Tensor | None = None) -> None:
        """Replace the whole index.

        Args:
            codes: [P, L], in any order, equal ids allowed (they share a bucket).
            rows: [P], the document row of each path; 0..P-1 by default.

        Raises:
            ValueError: When shapes or code ranges do not fit the configuration.
        """
        device = self.paths.device
        codes = codes.to(device=device, dtype=torch.int64)
        if codes.ndim != 2 or codes.shape[1] != self.num_levels or len(codes) == 0:
            raise ValueError(
                f"An index needs codes of shape [documents, {self.num_levels}], "
                f"found {list(codes.shape)}."
            )
        limit = torch.tensor(self.sizes, device=device)
        if bool((codes < 0).any()) or bool((codes >= limit).any()):
            raise ValueError(f"Codes must lie in 0..K-1 of their level, with K = {self.sizes}.")
        rows = torch.arange(len(codes)) if rows is None else rows
        rows = rows.to(device=device, dtype=torch.int64)
        if rows.shape != codes.shape[:1] or bool((rows < 0).any()):
            raise ValueError(
                f"An index needs one document row, 0 or above, for each of its {len(codes)} paths."
            )
        order = torch.arange(len(codes), device=device)
        for level in reversed(range(self.num_levels)):  # stable sorts by the last key first
            order = order[codes[order, level].sort(stable=True).indices]
        codes, self.rows = codes[order], rows[order]
        self.paths = codes.to(torch.int32)
        node = torch.zeros(len(codes), dtype=torch.int64, device=device)  # parent of each path
        count = 1
        for level in range(self.num_levels):
            first = torch.ones(len(codes), dtype=torch.bool, device=device)
            first[1:] = (node[1:] != node[:-1]) | (codes[1:, level] != codes[:-1, level])
            children = torch.bincount(node[first], minlength=count)
            setattr(self, f"indptr_{level}", _pointers(children).to(torch.int32))
            setattr(self, f"codes_{level}", codes[first, level].to(torch.int32))
            node = first.cumsum(0) - 1
            count = int(first.sum())
        self.buckets = _pointers(torch.bincount(node, minlength=count))

    def locate(self, codes: Tensor) -> Tensor:
        """Node that each prefix leads to.

        Args:
            codes: [B, l], l from 0 to L.

        Returns:
            [B] node numbers of level l, -1 where the prefix does not exist.
        """
        node = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        for level in range(codes.shape[1]):
            node = self.child(level, node, codes[:, level])
        return node

    def child(self, level: int, node: Tensor, code: Tensor) -> Tensor:
        """Node reached from `node` [B] by `code` [B]; -1 where there is none."""
        indptr, codes = self.level(level)
        size = self.sizes[level]
        counts = (indptr[1:] - indptr[:-1]).long()
        parent = torch.repeat_interleave(torch.arange(len(counts), device=node.device), counts)
        keys = parent * size + codes  # sorted, one an edge
        wanted = node * size + code.long()
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        fits = (keys[place] == wanted) & (node >= 0) & (code >= 0) & (code < size)
        return torch.where(fits, place, -1)

    def continuations(self, level: int, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Every child of every node, as one flat list.

        Args:
            level: From 0.
            node: [B], node numbers of that level; -1 has no children.

        Returns:
            (row of `node` [E], code [E], child node [E]).
        """
        indptr, codes = self.level(level)
        alive = node.clamp(min=0)
        start = indptr[alive].long()
        count = (indptr[alive + 1].long() - start) * (node >= 0)
        row, edge = ragged(start, count)
        return row, codes[edge].long(), edge

    def mask(self, level: int, node: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Which codes continue each node: bool [B, K].

        Args:
            level: From 0.
            node: [B].
            allowed: Which edges of the level may be used, [edges] bool; all by default.
        """
        row, code, edge = self.continuations(level, node)
        out = torch.zeros(len(node), self.sizes[level], dtype=torch.bool, device=node.device)
        out[row, code] = True if allowed is None else allowed[edge]
        return out

    def restrict(self, allowed_rows: Tensor) -> list[Tensor]:
        """Edges of each level that lead to an allowed document: a list of bool [edges].

        Args:
            allowed_rows: [documents] bool.
        """
        level_mask = _any_in_range(allowed_rows[self.rows], self.buckets)  # leaves
        masks = [level_mask]
        for level in reversed(range(1, self.num_levels)):
            level_mask = _any_in_range(level_mask, self.level(level)[0].long())
            masks.append(level_mask)
        return masks[::-1]

    def bucket(self, leaf: Tensor) -> tuple[Tensor, Tensor]:
        """Documents of leaves [B] as a flat list: (position in `leaf` [E], document row [E])."""
        alive = leaf.clamp(min=0)
        start = self.buckets[alive]
        count = (self.buckets[alive + 1] - start) * (leaf >= 0)
        row, path = ragged(start, count)
        return row, self.rows[path]

    def leaf_of_path(self) -> Tensor:
        """Leaf number of each path, [P]."""
        counts = self.buckets[1:] - self.buckets[:-1]
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def check(self) -> str | None:
        """What is wrong with the index, in one sentence; None when it is sound.

        Sound means that the trie, the buckets and the paths say the same thing.
        """
        if len(self) == 0:
            return None
        nodes = [1, *self.num_nodes]
        for level in range(self.num_levels):
            indptr, codes = self.level(level)
            if len(indptr) != nodes[level] + 1 or not _covers(indptr, len(codes)):
                return f"level {level + 1} of the id index does not fit its pointers"
            if bool((indptr[1:] <= indptr[:-1]).any()):
                return f"level {level + 1} of the id index has a node without children"
            if int(codes.min()) < 0 or int(codes.max()) >= self.sizes[level]:
                last = self.sizes[level] - 1
                return f"level {level + 1} of the id index has codes outside 0..{last}"
        if len(self.buckets) != nodes[-1] + 1 or not _covers(self.buckets, len(self)):
            return "the buckets of the id index do not fit its paths"
        if bool((self.buckets[1:] <= self.buckets[:-1]).any()):
            return "the id index has an id without a document"
        if len(self.rows) != len(self) or int(self.rows.min()) < 0:
            return "the documents of the id index do not fit its paths"
        if not torch.equal(self.locate(self.paths), self.leaf_of_path()):
            return "the paths of the id index are not those of its trie"
        return None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take buffers of other sizes: ids may have been assigned since this object was made."""
        for name, old in list(self._buffers.items()):
            new = state_dict.get(prefix + name)
            if new is not None and old is not None and new.shape != old.shape:
                self._buffers[name] = torch.empty(new.shape, dtype=old.dtype, device=old.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


def ragged(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten the ranges start..start+count: (number of the range [E], position [E])."""
    row = torch.repeat_interleave(torch.arange(len(start), device=start.device), count)
    first = count.cumsum(0) - count
    inside = torch.arange(len(row), device=start.device) - first[row]
    return row, start[row] + inside


def _pointers(counts: Tensor) -> Tensor:
    """[n] counts -> [n + 1] starts."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _covers(pointers: Tensor, entries: int) -> bool:
    """Whether pointers run from 0 to the number of entries."""
    return int(pointers[0]) == 0 and int(pointers[-1]) == entries


def _any_in_range(flags: Tensor, pointers: Tensor) -> Tensor:
    """Whether any flag is set in each range of `pointers` [n + 1]: bool [n]."""
    total = torch.cat(
        [torch.zeros(1, dtype=torch.int64, device=flags.device), flags.long().cumsum(0)]
    )
    return total[pointers[1:]] > total[pointers[:-1]]

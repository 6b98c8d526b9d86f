"""The id index: which ids exist, which document each names, and one CSR a level to walk them.

Nodes of a level are numbered in lexicographic order of their prefixes, so that the position of an
edge in its level's `codes` *is* the number of the child: no next-state array is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_genret import GenRetConfig

CHUNK = 2**20  # ids that are packed or checked at once
_INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)


class DocidIndex(nn.Module):
    """Ids and buckets as integer buffers, saved in model.safetensors.

    Buffers: `paths` [P, L] sorted lexicographically, `rows` [P] the document of each path,
    `buckets` [leaves + 1] where each leaf's paths start, and for each level `indptr_l`
    [nodes + 1] and `codes_l` [edges]. Each has the smallest type that holds it: codes of 256 take
    a byte, pointers four bytes below 2^31 entries and eight above.
    """

    paths: Tensor
    rows: Tensor
    buckets: Tensor

    def __init__(self, config: GenRetConfig) -> None:
        super().__init__()
        self.sizes = list(config.codebook_sizes)
        nodes = [1, *config.num_nodes] if config.num_paths else [0] * (len(self.sizes) + 1)
        paths, empty = config.num_paths, torch.zeros
        self._types = [_code_type(size) for size in self.sizes]
        self.register_buffer(
            "paths", empty(paths, len(self.sizes), dtype=_code_type(max(self.sizes)))
        )
        self.register_buffer("rows", empty(paths, dtype=_pointer_type(config.num_documents)))
        self.register_buffer("buckets", empty(nodes[-1] + 1, dtype=_pointer_type(paths)))
        for level in range(len(self.sizes)):
            edges, kind = nodes[level + 1], self._types[level]
            pointers = empty(nodes[level] + 1, dtype=_pointer_type(edges))
            self.register_buffer(f"indptr_{level}", pointers)
            self.register_buffer(f"codes_{level}", empty(edges, dtype=kind))
        self._derived: dict[tuple[str, int], Any] = {}

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

    def derived(self, name: str, level: int, make: Callable[[], Any]) -> Any:
        """What is computed of the index once and kept beside it, but not saved."""
        if (name, level) not in self._derived:
            with torch.inference_mode(False):  # it outlives the search that asks for it first
                self._derived[name, level] = make()
        return self._derived[name, level]

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
        if codes.ndim != 2 or codes.shape[1] != self.num_levels or len(codes) == 0:
            raise ValueError(
                f"An index needs codes of shape [documents, {self.num_levels}], "
                f"found {list(codes.shape)}."
            )
        for part in codes.split(CHUNK):
            limit = torch.tensor(self.sizes, device=part.device)
            if bool((part < 0).any()) or bool((part >= limit).any()):
                raise ValueError(f"Codes must lie in 0..K-1 of their level, with K = {self.sizes}.")
        if rows is None:
            rows = torch.arange(len(codes), device=device)
        if rows.shape != codes.shape[:1] or bool((rows < 0).any()):
            raise ValueError(
                f"An index needs one document row, 0 or above, for each of its {len(codes)} paths."
            )
        codes = codes.to(device=device, dtype=_code_type(max(self.sizes)))
        rows = rows.to(device=device, dtype=_pointer_type(int(rows.max()) + 1))
        order = _lexicographic(codes, self.sizes)
        if order is not None:
            codes, rows = codes[order], rows[order]
        self._derived = {}
        self.paths, self.rows = codes.contiguous(), rows
        new = torch.zeros(len(codes), dtype=torch.bool, device=device)  # a path that opens a node
        new[0] = True
        opens = torch.zeros(1, dtype=torch.int64, device=device)  # first path of each node
        for level in range(self.num_levels):
            column = codes[:, level]
            new[1:] |= column[1:] != column[:-1]
            first = new.nonzero()[:, 0]
            pointers = _end(new.cumsum(0)[opens] - 1, len(first))  # every opener opens again
            setattr(self, f"indptr_{level}", pointers.to(_pointer_type(len(first))))
            setattr(self, f"codes_{level}", column[first].to(self._types[level]))
            opens = first
        self.buckets = _end(opens, len(codes)).to(_pointer_type(len(codes)))

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

    def locate_tokens(self, tokens: Tensor, offsets: list[int]) -> Tensor:
        """Node that each prefix of generate()'s tokens leads to.

        A prefix is one number, looked up once, as long as ids in that vocabulary fit in 62 bits.

        Args:
            tokens: [B, l], l from 0 to L.
            offsets: First token of each level's block.

        Returns:
            [B] node numbers of level l, -1 where the prefix does not exist.
        """
        depth = tokens.shape[1]
        base = max(map(sum, zip(offsets, self.sizes, strict=True)))
        if depth == 0 or base**self.num_levels >= 2**62:
            return self.locate(tokens - torch.tensor(offsets[:depth], device=tokens.device))
        places, keys = self.derived(
            f"prefixes {offsets}", depth, lambda: self._prefixes(depth, offsets, base)
        )
        wanted = (tokens * places).sum(1)
        place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        return torch.where(keys[place] == wanted, place, -1)

    def _prefixes(self, depth: int, offsets: list[int], base: int) -> tuple[Tensor, Tensor]:
        """What each place of a prefix counts, [l], and the prefixes that exist, rising, [nodes]."""
        device = self.paths.device
        places = torch.tensor([base**i for i in reversed(range(depth))], device=device)
        first = torch.tensor(offsets[:depth], device=device)
        parts = [((part[:, :depth] + first) * places).sum(1) for part in self.paths.split(CHUNK)]
        return places, torch.unique_consecutive(torch.cat(parts))

    def child(self, level: int, node: Tensor, code: Tensor) -> Tensor:
        """Node reached from `node` [B] by `code` [B]; -1 where there is none."""
        size = self.sizes[level]
        keys = self.keys(level)
        wanted = (node.clamp(min=0) * size + code.long()).to(keys.dtype)
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        fits = (keys[place] == wanted) & (node >= 0) & (code >= 0) & (code < size)
        return torch.where(fits, place, -1)

    def edge(self, level: int, node: Tensor, code: Tensor) -> Tensor:
        """Node reached from `node` [B] by `code` [B] where there is one; any number elsewhere."""
        keys = self.keys(level)
        return torch.searchsorted(keys, (node * self.sizes[level] + code).to(keys.dtype))

    def keys(self, level: int) -> Tensor:
        """parent * K + code of every edge, [edges], rising; made at first use."""
        found: Tensor = self.derived("keys", level, lambda: self._keys(level))
        return found

    def _keys(self, level: int) -> Tensor:
        indptr, codes = self.level(level)
        kind = _pointer_type((len(indptr) - 1) * self.sizes[level])
        parents = torch.arange(len(indptr) - 1, device=codes.device, dtype=kind)
        counts = (indptr[1:] - indptr[:-1]).long()
        parent = torch.repeat_interleave(parents, counts, output_size=len(codes))
        return parent * self.sizes[level] + codes

    def edges(self, level: int, node: Tensor) -> tuple[Tensor, Tensor]:
        """First edge and number of edges of nodes [B] that exist: two of [B]."""
        indptr = self.level(level)[0]
        start = indptr.index_select(0, node).long()
        return start, indptr.index_select(0, node + 1).long() - start

    def widest(self, level: int) -> int:
        """Children of the widest node of a level."""
        indptr = self.level(level)[0]
        found: int = self.derived("widest", level, lambda: int((indptr[1:] - indptr[:-1]).max()))
        return found

    def mean_children(self, level: int) -> float:
        """Children of a node of a level, on average."""
        indptr, codes = self.level(level)
        return len(codes) / (len(indptr) - 1)

    def restrict(self, allowed_rows: Tensor) -> list[Tensor]:
        """Edges of each level that lead to an allowed document: a list of bool [.., edges].

        Args:
            allowed_rows: [documents] bool, or [S, documents] for several sets.
        """
        level_mask = _any_in_range(allowed_rows[..., self.rows.long()], self.buckets)  # leaves
        masks = [level_mask]
        for level in reversed(range(1, self.num_levels)):
            level_mask = _any_in_range(level_mask, self.level(level)[0])
            masks.append(level_mask)
        return masks[::-1]

    def bucket(self, leaf: Tensor) -> tuple[Tensor, Tensor]:
        """Documents of leaves [B] as a flat list: (position in `leaf` [E], document row [E])."""
        alive = leaf.clamp(min=0)
        start = self.buckets[alive].long()
        count = (self.buckets[alive + 1].long() - start) * (leaf >= 0)
        row, path = ragged(start, count)
        return row, self.rows[path].long()

    def leaf_of_path(self) -> Tensor:
        """Leaf number of each path, [P]."""
        counts = (self.buckets[1:] - self.buckets[:-1]).long()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def codes_of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Ids of document rows, and where there is one.

        Args:
            rows: [...], document rows; -1 is padding.

        Returns:
            Codes [..., L] of the first path of each document, 0 where there is none; and [...],
            whether the document has an id.
        """
        table, known = self.derived("rows", 0, self._first_codes)
        inside = (rows >= 0) & (rows < len(table))
        place = rows * inside
        return table[place] * inside.unsqueeze(-1), inside & known[place]

    def _first_codes(self) -> tuple[Tensor, Tensor]:
        """The first path of each document row, [documents, L], and whether it has any."""
        rows, order = self.rows.long().sort(stable=True)
        first = torch.ones_like(rows, dtype=torch.bool)
        first[1:] = rows[1:] != rows[:-1]
        table = torch.zeros(int(rows[-1]) + 1, self.num_levels, dtype=torch.long)
        table = table.to(rows.device)
        known = torch.zeros(len(table), dtype=torch.bool, device=rows.device)
        table[rows[first]] = self.paths[order[first]].long()
        known[rows[first]] = True
        return table, known

    def check(self) -> str | None:
        """What is wrong with the index, in one sentence; None when it is sound.

        Sound means that the trie, the buckets and the paths say the same thing.
        """
        wrong = self._wrong_kinds()
        if wrong is not None or len(self) == 0:
            return wrong
        self._derived = {}
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

    def _wrong_kinds(self) -> str | None:
        """What is wrong with the types and axes of the buffers; pointers of halves lead nowhere."""
        for name, buffer in self.named_buffers(recurse=False):
            axes = 2 if name == "paths" else 1
            if buffer.ndim != axes or buffer.dtype not in _INTEGERS:
                return f"{name} of the id index is not of whole numbers along {axes} axes"
        if self.paths.shape[1] != self.num_levels:
            return f"paths of the id index have {self.paths.shape[1]} levels, not {self.num_levels}"
        return None

    def _apply(self, *args: Any, **kwargs: Any) -> DocidIndex:
        """Another device: what was derived stays behind."""
        self._derived = {}
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take buffers of other sizes: ids may have been assigned since this object was made."""
        self._derived = {}
        for name, old in list(self._buffers.items()):
            new = state_dict.get(prefix + name)
            if new is not None and old is not None:
                self._buffers[name] = torch.empty(new.shape, dtype=new.dtype, device=old.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


def may_ask(tensor: Tensor) -> bool:
    """Whether reading a value on the host costs nothing: on a CPU, outside torch.compile.

    On other devices it would wait for the device, and break a graph that is being captured.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def ragged(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten the ranges start..start+count: (number of the range [E], position [E])."""
    row = torch.repeat_interleave(torch.arange(len(start), device=start.device), count)
    first = count.cumsum(0) - count
    inside = torch.arange(len(row), device=start.device) - first[row]
    return row, start[row] + inside


def _code_type(size: int) -> torch.dtype:
    """The smallest integer type that holds the codes of a level."""
    if size <= 256:
        return torch.uint8
    return torch.int16 if size <= 2**15 else torch.int32


def _pointer_type(entries: int) -> torch.dtype:
    return torch.int32 if entries < 2**31 else torch.int64


def _lexicographic(codes: Tensor, sizes: list[int]) -> Tensor | None:
    """The order that sorts ids [P, L], equal ones as they stood; None where they are sorted.

    As many levels as fit in 62 bits make one key; ids too long for one are sorted by their last
    levels first.
    """
    order: Tensor | None = None
    for group in reversed(_groups(sizes)):
        keys = torch.cat([_packed(part, group, sizes) for part in codes.split(CHUNK)])
        keys = keys if order is None else keys[order]
        if bool((keys[1:] >= keys[:-1]).all()):
            continue
        found = keys.sort(stable=True).indices
        order = found if order is None else order[found]
    return order


def _groups(sizes: list[int]) -> list[list[int]]:
    """Levels in runs whose ids fit in 62 bits."""
    out: list[list[int]] = [[]]
    room = 2**62
    for level, size in enumerate(sizes):
        if size > room:
            out.append([])
            room = 2**62
        out[-1].append(level)
        room //= size
    return out


def _packed(codes: Tensor, levels: list[int], sizes: list[int]) -> Tensor:
    """Codes of some levels as one number of mixed radix, [P] int64."""
    key = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    for level in levels:
        key = key * sizes[level] + codes[:, level]
    return key


def _end(starts: Tensor, entries: int) -> Tensor:
    """[n] starts -> [n + 1] pointers."""
    return torch.cat([starts, starts.new_tensor([entries])])


def _covers(pointers: Tensor, entries: int) -> bool:
    """Whether pointers run from 0 to the number of entries."""
    return int(pointers[0]) == 0 and int(pointers[-1]) == entries


def _any_in_range(flags: Tensor, pointers: Tensor) -> Tensor:
    """Whether any flag [.., n] is set in each range of `pointers` [m + 1]: bool [.., m]."""
    total = functional.pad(flags.long().cumsum(-1), (1, 0))
    return total[..., pointers[1:].long()] > total[..., pointers[:-1].long()]

"""An autoencoder whose latent vector is quantized level by level, trained on the CPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm

from hf_genret.indexing.kmeans import kmeans, squared_distances

BETA = 0.25
"""Weight of the commitment loss (VQ-VAE and TIGER)."""
_START_ROWS = 4096  # rows that the codebooks' k-means start looks at
_WINDOW = 50  # steps after which a code that nobody took is placed anew
_SETTLE = 0.75  # share of the steps after which no code is placed any more
_CHUNK = 1 << 22  # cells of a block of distances, or of vectors read at once


class Codebooks(nn.Module, ABC):
    """One codebook a level; subclasses say what a level reads and what the levels make together.

    Args:
        sizes: Codes a level.
        widths: Width of each level's code vectors.
    """

    def __init__(self, sizes: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.books = nn.ParameterList(
            nn.Parameter(torch.zeros(size, width))
            for size, width in zip(sizes, widths, strict=True)
        )
        self.used = [torch.zeros(size, dtype=torch.long) for size in sizes]  # since the last look

    @abstractmethod
    def read(self, latent: Tensor, level: int, chosen: Sequence[Tensor]) -> Tensor:
        """What one level quantizes, given the code vectors of the levels before."""

    @abstractmethod
    def join(self, chosen: Sequence[Tensor]) -> Tensor:
        """The quantized latent vector from the code vectors of all levels."""

    def forward(self, latent: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Quantize.

        Args:
            latent: Shape [B, D].

        Returns:
            The quantized vector [B, D] without straight-through, and for each level the codes [B]
            and what it read [B, width].
        """
        chosen: list[Tensor] = []
        codes, inputs = [], []
        for level, book in enumerate(self.books):
            # Detached: a codebook learns what it is given, not to help the next one.
            part = self.read(latent, level, [vector.detach() for vector in chosen])
            codes.append(_nearest(part.detach(), book.detach()))
            inputs.append(part)
            chosen.append(book[codes[-1]])
        return self.join(chosen), codes, inputs

    def loss(self, codes: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Codes drawn to what they stand for, and `BETA` times the other way round."""
        total = inputs[0].new_zeros(())
        for book, code, part in zip(self.books, codes, inputs, strict=True):
            vector = book[code]
            total = total + mse_loss(vector, part.detach()) + BETA * mse_loss(part, vector.detach())
        return total

    @torch.no_grad()
    def start(self, latent: Tensor, seed: int) -> None:
        """Place every codebook at the k-means centroids of what it reads."""
        chosen: list[Tensor] = []
        for level, book in enumerate(self.books):
            part = self.read(latent, level, chosen)
            found = kmeans(part.numpy(), len(book), seed=seed + level, iterations=10)
            book.copy_(torch.from_numpy(found.centroids))
            chosen.append(book[torch.from_numpy(found.labels).long()])

    def count(self, codes: Sequence[Tensor]) -> None:
        """Note which codes were taken."""
        for used, code in zip(self.used, codes, strict=True):
            used += torch.bincount(code, minlength=len(used))

    @torch.no_grad()
    def restart(self, inputs: Sequence[Tensor], draw: torch.Generator) -> None:
        """Place codes that were not taken at random items of a batch."""
        for book, used, part in zip(self.books, self.used, inputs, strict=True):
            dead = (used == 0).nonzero()[:, 0]
            dead = dead[torch.randperm(len(dead), generator=draw)][: len(part)]
            book[dead] = part[torch.randperm(len(part), generator=draw)[: len(dead)]].detach()

    def forget(self) -> None:
        """Start counting anew."""
        for used in self.used:
            used.zero_()


class ResidualCodebooks(Codebooks):
    """Every level quantizes what the levels before left over (RQ-VAE; TIGER, NeurIPS 2023)."""

    def read(self, latent: Tensor, level: int, chosen: Sequence[Tensor]) -> Tensor:
        """The rest, [B, D]."""
        return latent - sum(chosen) if chosen else latent

    def join(self, chosen: Sequence[Tensor]) -> Tensor:
        """The sum, [B, D]."""
        return torch.stack(list(chosen)).sum(dim=0)


class SplitCodebooks(Codebooks):
    """Every level quantizes its own part of the latent vector."""

    def read(self, latent: Tensor, level: int, chosen: Sequence[Tensor]) -> Tensor:
        """The level's part, [B, width]."""
        widths = [book.shape[1] for book in self.books]
        return latent.split(widths, dim=1)[level]

    def join(self, chosen: Sequence[Tensor]) -> Tensor:
        """All parts, [B, D]."""
        return torch.cat(list(chosen), dim=1)


class QuantizedAutoencoder(nn.Module):
    """MLP encoder, codebooks, MLP decoder.

    Args:
        dim: Width of the vectors.
        hidden: Width of the hidden layers.
        latent: Width of what is quantized.
        codebooks: The quantizer.
    """

    def __init__(self, dim: int, hidden: int, latent: int, codebooks: Codebooks) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.codebooks, self.hidden = codebooks, hidden

    def fit(self, x: Tensor, *, seed: int, steps: int, batch_size: int, lr: float) -> None:
        """Train on vectors [n, dim], first without codes, then with them from a k-means start."""
        draw = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(self.parameters(), lr=lr)
        warm_up, settled = steps // 10, int(_SETTLE * steps)
        for step in tqdm(range(steps), desc="Learning codes", delay=2, leave=False):
            if step == warm_up:
                sample = x[torch.randperm(len(x), generator=draw)[:_START_ROWS]]
                self.codebooks.start(self.encoder(sample).detach(), seed)
            batch = x[torch.randint(len(x), (batch_size,), generator=draw)]
            if step < warm_up:
                loss, inputs = mse_loss(self.decoder(self.encoder(batch)), batch), None
            else:
                loss, inputs = self._quantized_loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if inputs is not None and (step - warm_up + 1) % _WINDOW == 0:
                if step < settled:
                    self.codebooks.restart(inputs, draw)
                self.codebooks.forget()

    def _quantized_loss(self, batch: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Reconstruction and codebook losses, and what the levels read."""
        latent = self.encoder(batch)
        quantized, codes, inputs = self.codebooks(latent)
        self.codebooks.count(codes)
        through = latent + (quantized - latent).detach()  # straight-through
        loss = mse_loss(self.decoder(through), batch) + self.codebooks.loss(codes, inputs)
        return loss, inputs

    @torch.no_grad()
    def codes(self, x: Tensor) -> np.ndarray:
        """Codes of vectors [n, dim], a block of rows at a time: int32 [n, levels]."""
        step = max(1, _CHUNK // max(x.shape[1], self.hidden))
        parts = [
            torch.stack(self.codebooks(self.encoder(part))[1], dim=1) for part in x.split(step)
        ]
        return torch.cat(parts).numpy().astype(np.int32)


def _nearest(part: Tensor, book: Tensor) -> Tensor:
    """Number of the nearest code vector, a block of rows at a time: [B]."""
    step = max(1, _CHUNK // len(book))
    return torch.cat([squared_distances(rows, book).argmin(dim=1) for rows in part.split(step)])

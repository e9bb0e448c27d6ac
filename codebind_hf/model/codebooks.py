"""Codebooks: find the nearest code of every segment, move codes toward what chose them.

Axes in this file: N vectors, K codes, D width of a segment.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .collectives import (
    gather_with_gradient,
    num_processes,
    process_index,
    sizes_over_processes,
    sum_over_processes,
)
from .configuration_codebind import CodeBindConfig
from .typed_modules import ModulesByName


# Vectors compared with all codes at a time: bounds the memory of the search whatever the batch.
SEARCH_CHUNK = 8192


def sphere_points(num_points: int, dim: int) -> Tensor:
    """Evenly spread, reproducible points on the unit sphere, `(num_points, dim)` float32.

    The additive recurrence with the generalised golden ratio, mapped to the sphere through normal quantiles.
    """
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (dim + 1))
    steps_D = ratio ** -torch.arange(1, dim + 1, dtype=torch.float64)
    uniform_KD = (0.5 + torch.arange(1, num_points + 1, dtype=torch.float64).unsqueeze(1) * steps_D) % 1
    normal_KD = torch.erfinv((2 * uniform_KD - 1).clamp(-1 + 1e-9, 1 - 1e-9))
    return normalize(normal_KD, dim=-1).float()


def nearest_codes(vectors_ND: Tensor, codes_KD: Tensor, chunk: int = SEARCH_CHUNK) -> Tensor:
    """Index of the code with the largest cosine to every vector, `(N,)` int64; the first one wins a tie."""
    unit_KD = normalize(codes_KD, dim=-1)
    parts = [(part @ unit_KD.T).argmax(-1) for part in vectors_ND.split(chunk)]
    return torch.cat(parts) if parts else vectors_ND.new_zeros(0, dtype=torch.long)


def spherical_kmeans(vectors_ND: Tensor, num_codes: int, iterations: int = 10, seed: int = 0) -> Tensor:
    """`num_codes` unit centres of unit vectors by k-means on the cosine (paper appendix A.2).

    Starts from distinct random vectors, repeating them when there are fewer than codes; an empty cluster restarts
    from the vector that is farthest from its centre.
    """
    vectors_ND = normalize(vectors_ND.float(), dim=-1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(vectors_ND), generator=generator).to(vectors_ND.device)
    centres_KD = vectors_ND[order[torch.arange(num_codes, device=order.device) % len(order)]]
    for _ in range(iterations):
        ids_N = nearest_codes(vectors_ND, centres_KD)
        counts_K, sums_KD = counts_and_sums(vectors_ND, ids_N, num_codes)
        empty_K = counts_K == 0
        if empty_K.any():
            fit_N = (vectors_ND * centres_KD[ids_N]).sum(-1)
            worst = fit_N.argsort()[torch.arange(int(empty_K.sum()), device=order.device) % len(fit_N)]
            sums_KD[empty_K] = vectors_ND[worst]
        centres_KD = normalize(sums_KD, dim=-1)
    return centres_KD


def counts_and_sums(vectors_ND: Tensor, ids_N: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """How many vectors chose each code, `(K,)` float32, and their sum, `(K, D)`."""
    sums_KD = vectors_ND.new_zeros(num_codes, vectors_ND.shape[1]).index_add_(0, ids_N, vectors_ND)
    return torch.bincount(ids_N, minlength=num_codes).float(), sums_KD


def unit_segments(embedding: Tensor, code_dim: int) -> Tensor:
    """An embedding `(..., dim)` cut into unit segments `(..., dim / code_dim, code_dim)`, float32."""
    return normalize(embedding.float().unflatten(-1, (-1, code_dim)), dim=-1)


class Codebook(nn.Module):
    """`num_codes` vectors that follow the running mean of the segments that chose them (paper eq. 9 and 10).

    Codes are buffers, float32 whatever the model's dtype: saved with the model, invisible to every optimizer.
    `cluster_size` and `code_sum` are the moving averages of how many segments chose a code and of their sum, `usage`
    of the share of segments, `num_updates` the number of updates.
    """

    def __init__(self, num_codes: int, code_dim: int, config: CodeBindConfig) -> None:
        super().__init__()
        self.num_codes, self.code_dim = num_codes, code_dim
        self.decay = float(config.codebook_decay)
        self.restarts = config.restart_codes
        self.on_sphere = config.normalize_codes
        self.spread_rate = config.codebook_spread_rate * config.loss_weight("cuni")
        self.frozen = False
        for name, value in self.initial_state().items():
            self.register_buffer(name, value)

    codes: Tensor
    cluster_size: Tensor
    code_sum: Tensor
    usage: Tensor
    num_updates: Tensor

    def initial_state(self) -> dict[str, Tensor]:
        """Buffers before any update; the same bits whenever they are made."""
        codes = sphere_points(self.num_codes, self.code_dim)
        return {
            "codes": codes,
            "cluster_size": torch.ones(self.num_codes, dtype=torch.float32),
            "code_sum": codes.clone(),
            "usage": torch.zeros(self.num_codes, dtype=torch.float32),
            "num_updates": torch.zeros(1, dtype=torch.long),
        }

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Codebook":
        """Move with the model, but keep every dtype, bit for bit, when the model is cast."""

        def moved(x: Tensor) -> Tensor:
            result = fn(x)
            return result if result.dtype == x.dtype else x.to(result.device)

        return super()._apply(moved, recurse)

    def forward(self, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest code of unit segments `(..., D)`: the codes as stored, `(..., D)`, and their ids, `(...)` int64."""
        with torch.autocast(segments.device.type, enabled=False):
            ids = nearest_codes(segments.detach().float().flatten(0, -2), self.codes).view(segments.shape[:-1])
        return self.codes[ids], ids

    def lookup(self, ids: Tensor) -> Tensor:
        """Codes of ids `(...)`, `(..., D)`.

        Raises:
            ValueError: an id is not in `[0, num_codes)`.
        """
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.num_codes:
            raise ValueError(f"ids: got values in [{ids.min()}, {ids.max()}]; allowed are 0 to {self.num_codes - 1}.")
        return self.codes[ids]

    @torch.no_grad()
    def reset(self, codes_KD: Tensor) -> None:
        """Replace all codes and forget their history."""
        if codes_KD.shape != self.codes.shape:
            raise ValueError(
                f"codes: got shape {tuple(codes_KD.shape)}; this codebook holds {tuple(self.codes.shape)}."
            )
        state = self.initial_state()
        state["codes"] = normalize(codes_KD.float(), dim=-1) if self.on_sphere else codes_KD.float()
        state["code_sum"] = state["codes"].clone()
        for name, value in state.items():
            getattr(self, name).copy_(value)

    @torch.no_grad()
    def fit(self, vectors_ND: Tensor, seed: int = 0) -> None:
        """Replace the codes by k-means centres of unit vectors."""
        self.reset(spherical_kmeans(vectors_ND, self.num_codes, seed=seed))

    @torch.no_grad()
    def update(self, counts_K: Tensor, sums_KD: Tensor, anchors_KD: Tensor) -> None:
        """One step of the moving averages, then restarts of unused codes, then the uniformity step.

        Args:
            counts_K, sums_KD: number and sum of the segments that chose each code, over all processes.
            anchors_KD: a segment of the batch for every code, where an unused code restarts.
        """
        rate = 1 - self.decay
        self.cluster_size.lerp_(counts_K, rate)
        self.code_sum.lerp_(sums_KD, rate)
        self.usage.lerp_(counts_K / counts_K.sum().clamp(min=1), rate)
        self._move(anchors_KD)
        self.num_updates += 1

    def _move(self, anchors_KD: Tensor) -> None:
        """Restarts, new codes from the moving averages, and the uniformity step."""
        if self.restarts:
            self._restart(anchors_KD)
        mean_KD = self.code_sum / self.cluster_size.clamp(min=1e-8).unsqueeze(1)
        mean_KD = normalize(mean_KD, dim=-1) if self.on_sphere else mean_KD
        # A code that nothing chose for thousands of steps has no history left to average.
        self.codes.copy_(torch.where(self.cluster_size.unsqueeze(1) > 1e-8, mean_KD, self.codes))
        if self.spread_rate:
            self._spread()

    def restart_shares(self) -> Tensor:
        """How far each code is to restart, `(K,)`: alpha = exp(-10 K p / (1 - decay) - 1e-3) of its usage p."""
        return torch.exp(-10 * self.num_codes * self.usage / (1 - self.decay) - 1e-3)

    def _restart(self, anchors_KD: Tensor) -> None:
        """Blend unused codes into `anchors`.

        The statistics restart too, as if the fair share of one batch had chosen the code: without that the next
        moving average would undo the restart, and without a share of usage the next step would repeat it.
        """
        alpha_K = self.restart_shares()
        self.code_sum.lerp_(anchors_KD, alpha_K.unsqueeze(1))
        self.cluster_size.lerp_(torch.ones_like(self.cluster_size), alpha_K)
        self.usage.lerp_(torch.full_like(self.usage, (1 - self.decay) / self.num_codes), alpha_K)

    def _spread(self) -> None:
        """A gradient step of `log mean exp(-||e_m - e_n||^2)` on the codes (paper eq. 8)."""
        with torch.autocast(self.codes.device.type, enabled=False):
            kernel_KK = torch.exp(-torch.cdist(self.codes, self.codes).square())
            pull_KD = self.codes * kernel_KK.sum(1, keepdim=True) - kernel_KK @ self.codes
        moved_KD = self.codes + self.spread_rate * 4 * pull_KD / kernel_KK.sum()
        self.codes.copy_(normalize(moved_KD, dim=-1) if self.on_sphere else moved_KD)
        self.code_sum.copy_(self.codes * self.cluster_size.unsqueeze(1))


class Quantized(NamedTuple):
    """One part of a batch of embeddings, before and after its codebook.

    Args:
        continuous: `(..., dim)`, unit norm.
        embedding: `(..., dim)`, unit norm; gradients pass straight through the codebook.
        ids: `(..., segments)` int64, or `None` without a codebook.
        segments: unit segments `(..., segments, code_dim)`.
        chosen: the codes as stored, like `segments`, or `None`.
    """

    continuous: Tensor
    embedding: Tensor
    ids: Tensor | None
    segments: Tensor
    chosen: Tensor | None

    def as_stored(self) -> Tensor:
        """The codes with the norms they have, `(..., dim)`, straight-through; without a codebook unit segments."""
        return straight_through(self.segments, self.chosen).flatten(-2)


def straight_through(segments: Tensor, chosen: Tensor | None) -> Tensor:
    """The chosen codes, bit for bit, with the gradient of the segments; the segments where nothing was chosen.

    argmax has no gradient, so the encoder is handed that of its own segments. Their difference is 0, so that `embeds`
    is the exact inverse also while training.
    """
    return segments if chosen is None else chosen + (segments - segments.detach())


class SharedSpecificCodebook(nn.Module):
    """One codebook for the shared part of every encoder and one for the specific part of each.

    With `shared_codebook="per_encoder"` the shared one is text's alone, and an encoder's own quantizes both its parts.
    """

    book_class: type[Codebook] = Codebook

    def __init__(self, config: CodeBindConfig) -> None:
        super().__init__()
        self.code_dim, size = config.code_dim, config.num_shared_codes
        # Of every encoder's specific part, also where it has no codes: its segments have a width all the same.
        self.specific_code_dims: dict[str, int] = {}
        # Names of the books of the shared parts, by encoder.
        self.shared_books: dict[str, str] = {}
        self.even_segments = config.even_segments
        self.shared = self.book_class(size, config.code_dim, config) if size else None
        self.specific = ModulesByName[Codebook]()
        for name in config.encoder_configs:
            self.add_encoder(name, config)

    def add_encoder(self, name: str, config: CodeBindConfig) -> None:
        """A codebook of its own for encoder `name`, if it has codes and a part that they quantize."""
        size, width = config.num_specific_codes_of(name), config.code_dim_of("specific", name)
        self.specific_code_dims[name] = width
        self.shared_books[name] = config.book_of("shared", name)
        if config.has_own_codes(name):
            self.specific[name] = self.book_class(size, width, config)

    def book_name(self, part: str, encoder: str) -> str:
        """Which codebook quantizes `part` of an encoder: "shared", or the encoder whose own it is."""
        return self.shared_books[encoder] if part == "shared" else encoder

    def book(self, part: str, encoder: str) -> Codebook | None:
        """The codebook of `part` ("shared" or "specific") for an encoder; `None` where there is none."""
        if self.book_name(part, encoder) == "shared":
            return self.shared
        return dict(self.specific.items()).get(encoder)

    def segments(self, part: str, encoder: str, embedding: Tensor) -> Tensor:
        """Embeddings `(..., dim)` of `part` as unit segments of its codes' width, `(..., segments, code_dim)`."""
        return unit_segments(embedding, self.code_dim if part == "shared" else self.specific_code_dims[encoder])

    def continuous(self, part: str, encoder: str, embedding: Tensor) -> Tensor:
        """Unit embeddings before quantization, `(..., dim)`; of unit segments where segments are to be even."""
        if self.even_segments:
            embedding = self.segments(part, encoder, embedding).flatten(-2)
        return normalize(embedding.float(), dim=-1)

    def quantize(self, part: str, encoder: str, embedding: Tensor) -> Quantized:
        """Quantize embeddings `(..., dim)` segment by segment (paper section 3.2), straight-through."""
        continuous = self.continuous(part, encoder, embedding)
        segments = self.segments(part, encoder, embedding)
        book = self.book(part, encoder)
        if book is None:
            return Quantized(continuous, continuous, None, segments, None)
        chosen, ids = book(segments)
        passed = straight_through(segments, chosen).flatten(-2)
        return Quantized(continuous, normalize(passed, dim=-1), ids, segments, chosen)

    def embeds(self, part: str, encoder: str, ids: Tensor) -> Tensor:
        """Unit embeddings `(..., dim)` of code ids `(..., segments)`, the inverse of `quantize`."""
        book = self.book(part, encoder)
        if book is None:
            raise ValueError(f"part: {part!r} of {encoder!r} has no codebook in this model.")
        return normalize(book.lookup(ids).flatten(-2), dim=-1)

    @torch.no_grad()
    def update(self, chosen: Iterable[tuple[str, str, Quantized]]) -> None:
        """Move every codebook that is not frozen toward what chose its codes, once.

        Every process makes the same collectives in the same order, whatever its batch holds.

        Args:
            chosen: `(part, encoder, quantized)` of everything that this step quantized.
        """
        books: dict[str, Codebook | None] = {"shared": self.shared, **dict(self.specific.items())}
        active = {name: book for name, book in books.items() if book is not None and not book.frozen}
        segments: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in active}
        for part, encoder, quantized in chosen:
            name = self.book_name(part, encoder)
            if name in active and quantized.ids is not None:
                segments[name].append((quantized.segments.detach().flatten(0, -2), quantized.ids.flatten()))
        if num_processes() == 1:
            # Nobody else's batch can have what this one lacks.
            active = {name: book for name, book in active.items() if segments[name]}
        statistics = [_statistics(book, segments[name]) for name, book in active.items()]
        if not statistics:
            return
        packed = sum_over_processes(torch.cat([x.flatten() for x in statistics]))
        parts = packed.split([x.numel() for x in statistics])
        for book, part, like in zip(active.values(), parts, statistics, strict=True):
            counts, sums, anchors = part.view_as(like).split([1, book.code_dim, book.code_dim], dim=1)
            if counts.sum() > 0:
                book.update(counts.squeeze(1), sums, anchors)


def _statistics(book: Codebook, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Counts, sums and restart anchors of one codebook on this process, `(K, 1 + 2 D)`."""
    device = book.codes.device
    vectors_ND = torch.cat([vectors for vectors, _ in parts]) if parts else book.codes[:0]
    ids_N = torch.cat([ids for _, ids in parts]) if parts else torch.zeros(0, dtype=torch.long, device=device)
    counts_K, sums_KD = counts_and_sums(vectors_ND, ids_N, book.num_codes)
    return torch.cat([counts_K.unsqueeze(1), sums_KD, _anchors(book, vectors_ND)], dim=1)


def _anchors(book: Codebook, vectors_ND: Tensor) -> Tensor:
    """This process's share of one segment of the whole batch for every code; zeros where another process has it.

    Segments are put in order along a direction and taken at even steps, so each is as likely as another. Direction and
    steps are fixed functions of the update counter, not of a random generator: the same segments are found however the
    batch is spread over processes, and after any resume.
    """
    start = sum(sizes_over_processes(vectors_ND)[: process_index()])
    width = torch.arange(1, book.code_dim + 1, dtype=torch.float64, device=vectors_ND.device)
    direction_D = torch.cos((book.num_updates + 1) * width * math.sqrt(2)).to(vectors_ND.dtype)
    # Not a matrix product, which autocast would round.
    order_N = gather_with_gradient((vectors_ND.detach() * direction_D).sum(-1)).argsort(stable=True)
    steps_K = torch.arange(book.num_codes, dtype=torch.float64, device=vectors_ND.device)
    steps_K += book.num_updates * book.num_codes + 1
    anchors_KD = torch.zeros_like(book.codes)
    if len(order_N):
        rows_K = order_N[((steps_K * (math.sqrt(5) - 1) / 2 % 1) * len(order_N)).long()] - start
        mine_K = (rows_K >= 0) & (rows_K < len(vectors_ND))
        anchors_KD[mine_K] = vectors_ND[rows_K[mine_K]]
    return anchors_KD

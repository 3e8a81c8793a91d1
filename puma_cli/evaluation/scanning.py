"""Multiplying queries with candidates block by block, while the next block is read."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from puma_cli.encoding.finite import check_finite
from puma_cli.encoding.vectors import InMemory, Vectors
from puma_cli.errors import DataError

# On a CPU a block of scores of 8 or 16 MB still lies in the cache when it is looked through.
_ON_CPU = 1024, 4096
_ON_GPU = 2048, 32768
_AHEAD = 2
_PAGE = 4096
# Few enough for their numbers to stay in the cache.
_PAIRS = 512
_ROUNDING, _BF16 = 2.0**-24, 2.0**-9


@dataclass(frozen=True)
class Block:
    """Some queries' scores for some candidates, rounded.

    Args:
        scores: inner products (q, n); whoever reads them last may overwrite them.
        first: the place of the first of these candidates.
        vectors: the candidates (n, D) as they are stored.
        error: for each query what its scores may be wrong by (q, 1), and
        relative: as a share of themselves, beside it.
    """

    scores: Tensor
    first: int
    vectors: Tensor
    error: Tensor
    relative: float

    def lowered(self, scores: Tensor) -> Tensor:
        """Return the least that is meant by rounded scores (q, 1), or how low they may be read."""
        return scores - (self.error + self.relative * scores.abs())


def as_vectors(vectors: Tensor | Vectors) -> Vectors:
    """Return a tensor (N, D) as vectors in memory, and other vectors as they are."""
    return InMemory(vectors) if isinstance(vectors, Tensor) else vectors


def place_of(device: torch.device | str | None, queries: Tensor | Vectors) -> torch.device:
    """Return where to multiply: `device`, or else where the queries are."""
    if device is not None:
        return torch.device(device)
    return queries.device if isinstance(queries, Tensor) else torch.device("cpu")


def query_blocks(queries: Vectors, size: int | None, place: torch.device) -> Iterator[slice]:
    """Yield the ranges of queries that are scored at a time; by default what suits `place`."""
    size = size or (_ON_CPU if place.type == "cpu" else _ON_GPU)[0]
    for start in range(0, len(queries), size):
        yield slice(start, min(start + size, len(queries)))


def scan(
    queries: Tensor,
    candidates: Vectors,
    size: int | None,
    place: torch.device,
    rough: Callable[[], bool] = lambda: False,
) -> Iterator[Block]:
    """Yield the scores of queries (q, D), fp32 at `place`, for all candidates in their order.

    Args:
        size: candidates scored at a time; by default what suits `place`.
        rough: asked before each block whether bf16 will do.

    Raises:
        NumericError: a candidate is not finite.
    """
    size = min(size or (_ON_CPU if place.type == "cpu" else _ON_GPU)[1], len(candidates))
    fine = _Multiplier(queries, torch.float32, size)
    coarse = _Multiplier(queries, torch.bfloat16, size)
    with _exact_products():
        for first, rows in _read_ahead(candidates, size):
            yield (coarse if rough() else fine).block(first, rows.to(place))


class _Multiplier:
    """Multiplies candidates with queries (q, D) in one float format."""

    def __init__(self, queries: Tensor, dtype: torch.dtype, size: int) -> None:
        self._dtype, self._size = dtype, size
        self._queries = queries.to(dtype)
        dimension, fine = queries.shape[1], dtype == torch.float32
        lengths = torch.linalg.vector_norm(queries, dim=1, keepdim=True)
        lost = torch.linalg.vector_norm(queries - self._queries.float(), dim=1, keepdim=True)
        # By Cauchy and Schwarz, with the candidates rounded too.
        self._error = lengths * rounding(dimension) + (0 if fine else 1.01 * lost + _BF16 * lengths)
        self._relative = 0.0 if fine else 2.05 * _BF16
        self._longest = torch.zeros((), device=queries.device)
        # One place for all blocks: fresh memory costs more than what is written to it.
        self._out: Tensor | None = None
        self._converted: Tensor | None = None

    def block(self, first: int, rows: Tensor) -> Block:
        vectors = rows
        if rows.dtype != self._dtype:
            if self._converted is None:
                self._converted = torch.empty(
                    self._size, rows.shape[1], dtype=self._dtype, device=rows.device
                )
            vectors = self._converted[: len(rows)].copy_(rows)
        self._longest = torch.maximum(self._longest, _longest(vectors, rows))
        if self._out is None:
            self._out = torch.empty(
                len(self._queries), self._size, dtype=self._dtype, device=rows.device
            )
        whole = {"out": self._out} if len(rows) == self._size else {}
        scores = torch.mm(self._queries, vectors.T, **whole)
        return Block(scores, first, rows, self._error * self._longest, self._relative)


@lru_cache(maxsize=1)
def bf16_is_faster() -> bool:
    """Tell whether this CPU multiplies matrices of bf16 clearly faster than of fp32."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(512, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
        torch.mm(left, right)
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            torch.mm(left, right)
            taken.append(time.perf_counter() - started)
        seconds[dtype] = min(taken)
    return seconds[torch.bfloat16] < 0.7 * seconds[torch.float32]


def rounding(dimension: int) -> float:
    """Return the largest error of an fp32 inner product of unit vectors.

    A sum of D products in any order is wrong by at most D u, and but for a chance of less than
    one in a thousand by 4 sqrt(D) u, were its terms' errors independent and the sum one chain
    (Higham and Mary 2019); the chains of a matrix product are many times shorter.
    """
    return min(dimension, 4 * math.sqrt(dimension)) * _ROUNDING


def pair_scores(
    queries: Tensor | Vectors, candidates: Tensor | Vectors, rows: Tensor, columns: Tensor
) -> Tensor:
    """Return the inner products of pairs, summed in fp64 and then rounded: fp32 on the CPU (P,).

    A pair's score does not depend on its neighbours, and equal vectors have equal ones.

    Args:
        rows: the query of each pair (P,).
        columns: the candidate of each pair (P,).
    """
    queries, candidates = as_vectors(queries), as_vectors(candidates)
    rows, columns = rows.cpu(), columns.cpu()
    scores = torch.empty(len(rows))
    # Candidates on a disk are read in their order.
    order = columns.argsort(stable=True)
    for at in range(0, len(order), _PAIRS):
        some = order[at : at + _PAIRS]
        left = queries.take(rows[some]).cpu().double()
        right = candidates.take(columns[some]).cpu().double()
        scores[some] = left.mul_(right).sum(dim=1).float()
    return scores


def check_searchable(queries: Vectors, candidates: Vectors) -> None:
    """Raise DataError if there is nothing to search, or the two sides differ in dimension."""
    if len(candidates) == 0:
        raise DataError(
            "The candidate pool is empty: there is nothing to search.",
            hint="Check the files below cand_pool/ of the data set.",
        )
    if len(queries) and queries.dimension != candidates.dimension:
        raise DataError(
            f"Queries of {queries.dimension} dimensions cannot be searched among candidates of "
            f"{candidates.dimension}.",
            cause="They come from models of different spaces.",
        )


def _longest(vectors: Tensor, rows: Tensor) -> Tensor:
    """Return the length of the longest of vectors (n, D), and check that they are finite.

    Args:
        vectors: rounded or not.
        rows: the same as they are stored.
    """
    longest = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float32).max()
    if not longest.isfinite():
        check_finite("candidate", rows)
        longest = torch.linalg.vector_norm(rows.double(), dim=1).max().float()
    # A rounded vector may be shorter than itself.
    return longest if vectors.dtype == torch.float32 else longest * (1 + 2 * _BF16)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Multiply fp32 matrices in fp32, whatever the process has chosen for its models."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _touch(rows: Tensor) -> None:
    """Have the pages of a mapped file read."""
    # Not by torch: its threads here would wait busily, on cores that multiply.
    if rows.is_contiguous():
        rows.view(torch.uint8).flatten().numpy()[::_PAGE].max(initial=0)


def _read_ahead(candidates: Vectors, size: int) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks of candidates with the place of each one's first, read by a thread."""
    starts = range(0, len(candidates), size)
    if isinstance(candidates, InMemory) or len(starts) == 1:
        for start in starts:
            yield start, candidates.rows(start, min(start + size, len(candidates)))
        return
    ready: queue.Queue[tuple[int, Tensor] | BaseException] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: tuple[int, Tensor] | BaseException) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for start in starts:
                if stopped.is_set():
                    return
                rows = candidates.rows(start, min(start + size, len(candidates)))
                _touch(rows)
                put((start, rows))
        except BaseException as error:
            put(error)

    reader = threading.Thread(target=read, name="puma-read-ahead", daemon=True)
    reader.start()
    try:
        for _ in starts:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        reader.join()

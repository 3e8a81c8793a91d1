"""Multiplying queries with candidates block by block, while the next block is read."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from puma_cli.encoding.vectors import InMemory, Vectors
from puma_cli.errors import DataError, NumericError

# On a CPU a block of scores of 16 MB still lies in the cache when it is looked through.
_ON_CPU = 1024, 4096
_ON_GPU = 2048, 32768
_AHEAD = 2
_PAIRS = 4096
_ROUNDING = 2.0**-24


@dataclass(frozen=True)
class Block:
    """Some queries' scores for some candidates.

    Args:
        scores: inner products (q, n) in fp32; whoever reads them last may overwrite them.
        first: the place of the first of these candidates.
        vectors: the candidates (n, D), fp32 where they were multiplied.
        error: for each query what its scores may be wrong by (q, 1).
    """

    scores: Tensor
    first: int
    vectors: Tensor
    error: Tensor


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
    queries: Tensor, candidates: Vectors, size: int | None, place: torch.device
) -> Iterator[Block]:
    """Yield the scores of queries (q, D), fp32 at `place`, for all candidates in their order.

    Args:
        size: candidates scored at a time; by default what suits `place`.

    Raises:
        NumericError: a candidate is not finite.
    """
    size = size or (_ON_CPU if place.type == "cpu" else _ON_GPU)[1]
    lengths = torch.linalg.vector_norm(queries, dim=1, keepdim=True)
    longest = torch.zeros((), device=place)
    out = torch.empty(len(queries), size, device=place)
    with _exact_products():
        for first, rows in _read_ahead(candidates, size):
            vectors = rows.to(place).float()
            longest = torch.maximum(longest, _longest(vectors))
            whole = len(vectors) == size
            scores = torch.mm(queries, vectors.T, **({"out": out} if whole else {}))
            yield Block(scores, first, vectors, lengths * longest * rounding(vectors.shape[1]))


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
        scores[some] = _products(queries, candidates, rows[some], columns[some])
    return scores


def _products(queries: Vectors, candidates: Vectors, rows: Tensor, columns: Tensor) -> Tensor:
    asked, which = rows.unique(return_inverse=True)
    places, where = columns.unique_consecutive(return_inverse=True)
    left = queries.take(asked).cpu().double()[which]
    right = candidates.take(places).cpu().double()[where]
    return left.mul_(right).sum(dim=1).float()


def check_finite(name: str, embeddings: Tensor) -> None:
    """Raise NumericError if some of the embeddings (N, D) of `name` are not finite."""
    # A NaN loses every comparison, so it would count as a perfect rank. One in a row makes its
    # sum one, which spares a mask of the whole matrix.
    bad = int((~embeddings.sum(dim=1, dtype=torch.float32).isfinite()).sum())
    if bad:
        raise NumericError(
            f"{bad} of {len(embeddings)} {name} embeddings are not finite.",
            cause="The model overflows in this dtype, or its weights are broken.",
            hint="Try --dtype float32.",
        )


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


def _longest(vectors: Tensor) -> Tensor:
    """Return the length of the longest of vectors (n, D), and check that they are finite."""
    longest = torch.linalg.vector_norm(vectors, dim=1).max()
    if not longest.isfinite():
        check_finite("candidate", vectors)
        longest = torch.linalg.vector_norm(vectors.double(), dim=1).max().float()
    return longest


@contextmanager
def _exact_products() -> Iterator[None]:
    """Multiply fp32 matrices in fp32, whatever the process has chosen for its models."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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
                # The copy is what reads the pages of a mapped file.
                put((start, candidates.rows(start, min(start + size, len(candidates))).clone()))
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

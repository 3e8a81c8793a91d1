"""Retrieval at every depth, and the similarity between layers, from one pass over the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.records import MODALITIES
from puma_cli.errors import DataError
from puma_cli.evaluation.encode import encode_groups
from puma_cli.evaluation.metrics import from_first_rank
from puma_cli.evaluation.results import LOCAL
from puma_cli.evaluation.search import rank_relevant
from puma_cli.evaluation.tasks import Pool, Task, make_pool, read_tasks
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.profiling.profile import TaskReadout
from puma_cli.profiling.similarity import LayerSimilarity, SimilarityAccumulator
from puma_cli.progress import SILENT, Reporter

METRICS = ("hit@1", "hit@5", "hit@10", "mrr@10")
SIDES = ("query", "candidate")

# All depths of all distinct inputs stay in memory: exact up to the first bound, rounded to fp16
# (four digits of a cosine) up to the second, refused beyond it.
EXACT_BYTES = 2 << 30
LARGEST_BYTES = 16 << 30


class DepthEncoder:
    """Embeds one side at every depth at once, and measures its layers on the way.

    Args:
        embedder: the model at full depth L.
        side: `query` or `candidate`.
    """

    def __init__(self, embedder: Embedder, side: str) -> None:
        self.embedder, self.side = embedder, side
        self.model, self.device = embedder.model, embedder.device
        self._groups: dict[str, SimilarityAccumulator] = {}

    def encode(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "encode",
    ) -> Tensor:
        """Return L2-normalised norm(h[k]) for k = 0 to L, (N, L + 1, D), on the CPU.

        At L, the vectors are the model's own: after its head, where it has one. Where the head
        changes the length, the shorter vectors are filled up with zeros.

        Raises:
            DataError: this would take more memory than is reasonable.
            NumericError: a layer's output is not finite.
        """
        depths, width = self.embedder.depth + 1, self.embedder.width
        longest = max(width, self.embedder.dimension)
        dtype = storage(len(inputs) * depths * longest)
        out = torch.zeros(len(inputs), depths, longest, dtype=dtype)
        for chosen, batch in self.embedder.batches(inputs, batch_size, reporter, label):
            states = self.embedder.hidden_states(batch)
            self._measure([inputs[place].modality for place in chosen], states)
            read = self.embedder.read_out(states)
            vectors = normalize(read.float(), dim=-1)
            out[chosen, :, :width] = vectors.transpose(0, 1).to("cpu", dtype)
            if self.embedder.head is not None:
                own = normalize(self.embedder.apply_head(read[-1]), dim=-1)
                out[chosen, -1] = pad(own, (0, longest - own.shape[1])).to("cpu", dtype)
        return out

    def _measure(self, modalities: Sequence[str], states: Tensor) -> None:
        states = states.cpu()
        for modality in dict.fromkeys(modalities):
            where = [place for place, name in enumerate(modalities) if name == modality]
            group = self._groups.get(modality)
            if group is None:
                group = SimilarityAccumulator(self.side, modality, self.embedder.depth)
                self._groups[modality] = group
            group.add(states[:, where])

    def similarity(self) -> list[LayerSimilarity]:
        """Return the measures of each modality seen."""
        return [self._groups[name].result() for name in MODALITIES if name in self._groups]


def read_out_depths(
    embedder: Embedder,
    data: MbeirFolder,
    *,
    split: str = "val",
    tasks: str = "*",
    limit: int | None = None,
    batch_size: int = 128,
    reporter: Reporter = SILENT,
) -> tuple[tuple[TaskReadout, ...], tuple[LayerSimilarity, ...], bool]:
    """Score the untrained cut at every depth on the local pools of `split`.

    Candidates and queries pass through the model once; the cut after k layers reads norm(h[k]).

    Args:
        tasks: glob over task names.
        limit: at most this many queries of each task (>= 1); pools are always whole.

    Returns:
        one entry for each task, one for each side and modality, and whether `limit` left any
        query out.

    Raises:
        DataError: the data set is broken, or too large to be held at every depth.
        NumericError: a layer's output is not finite.
    """
    asked = read_tasks(data, split, tasks, limit)
    pools = [make_pool(LOCAL, data.local_pool(task.name, split), data.root) for task in asked]
    encoders = {side: DepthEncoder(embedder, side) for side in SIDES}
    with evaluation_mode(embedder.model):
        candidates, places = encode_groups(
            encoders["candidate"],
            [pool.inputs() for pool in pools],
            batch_size=batch_size,
            reporter=reporter,
            label="candidates",
        )
        queries, wheres = encode_groups(
            encoders["query"],
            [task.inputs(data.instructions) for task in asked],
            batch_size=batch_size,
            reporter=reporter,
            label="queries",
        )
    rows = zip(asked, pools, wheres, places, strict=True)
    readout = tuple(
        _score(task, pool, queries[where], candidates, place, embedder.device)
        for task, pool, where, place in reporter.track(rows, "search", total=len(asked))
    )
    similarity = [entry for side in SIDES for entry in encoders[side].similarity()]
    return readout, tuple(similarity), any(len(t.queries) < t.available for t in asked)


def storage(numbers: int) -> torch.dtype:
    """Return the dtype in which so many numbers are held.

    Raises:
        DataError: they are too many for either.
    """
    if numbers * 4 <= EXACT_BYTES:
        return torch.float32
    if numbers * 2 <= LARGEST_BYTES:
        return torch.float16
    raise DataError(
        f"The embeddings at every depth would take {numbers * 2 / 1e9:.0f} GB.",
        cause="All candidates of the chosen tasks are held in memory once for each layer.",
        hint="Choose tasks with smaller pools with --tasks, or fewer queries with --limit.",
    )


def _score(
    task: Task,
    pool: Pool,
    queries: Tensor,
    candidates: Tensor,
    place: Tensor,
    device: torch.device,
) -> TaskReadout:
    inside = pool.places_of(task.relevant)
    scores: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for depth in range(queries.shape[1]):
        ranks = rank_relevant(
            queries[:, depth].float(), candidates[:, depth][place].float(), inside, device=device
        )
        for metric in METRICS:
            scores[metric].append(float(np.mean(from_first_rank(metric, ranks.first))))
    return TaskReadout(
        task=task.name.name,
        queries=len(task.queries),
        candidates=len(pool.candidates),
        scores={metric: tuple(values) for metric, values in scores.items()},
    )

"""What an analysis found out about a model, as one frozen record and one JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from puma_cli.checkpoint.layout import PROFILE
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.checkpoint.provenance import to_plain
from puma_cli.config.layers import first_layers, keep_last_layers
from puma_cli.errors import CheckpointError
from puma_cli.profiling.bridges.bridge import BridgeFit
from puma_cli.profiling.cost.depth_cost import DepthCost, Parameters
from puma_cli.profiling.recommendation.explained_choice import Choice
from puma_cli.profiling.recommendation.predictor import Prediction
from puma_cli.profiling.records import build
from puma_cli.profiling.retrieval.readings import read_depths
from puma_cli.profiling.retrieval.retention import Retention
from puma_cli.profiling.similarity.measures import LayerSimilarity

FORMAT = 4
PLAIN = "first"


@dataclass(frozen=True)
class TaskReadout:
    """Retrieval on one task by the model cut at each depth.

    Args:
        task: name such as `scenes_task0`.
        queries: number of queries scored (>= 1).
        candidates: number of candidates searched: the task's local pool, or a part of it.
        scores: for each reading, such as `first` or `bridged`, and each metric, such as `hit@1`,
            its value at depths 0 to L, (L + 1,), in [0, 1].
    """

    task: str
    queries: int
    candidates: int
    scores: dict[str, dict[str, tuple[float, ...]]]


@dataclass(frozen=True)
class Measurement:
    """How a profile was measured.

    Args:
        split: the split of the queries.
        partial: whether queries or candidates of it were left out.
        stopped: whether it was ended early, so that less was measured than asked for.
        seed: seed of everything drawn.
        batch_size: inputs at once.
        repeats: timed passes behind each median.
        device: name of the device.
        dtype: number format of the weights.
        query_tokens: mean number of tokens of a query.
        candidate_tokens: mean number of tokens of a candidate.
        index_bytes: bytes of the candidates' vectors in float16.
    """

    split: str
    partial: bool
    stopped: bool
    seed: int
    batch_size: int
    repeats: int
    device: str
    dtype: str
    query_tokens: float
    candidate_tokens: float
    index_bytes: int


@dataclass(frozen=True)
class LayerProfile:
    """The layers of one model on one data set.

    Args:
        model: how the user named the model.
        data: how the user named the data set.
        depth: number of decoder layers L.
        dimension: length of the model's embedding.
        measured: how it was measured.
        parts: parameters by part.
        costs: what the cut at each depth costs, k = 1 to L.
        readout: retrieval, one entry for each task.
        retention: for each reading the share of the full model's hit@1 that it keeps.
        bridges: for each bridged reading the fitted maps, in order of depth.
        similarity: one entry for each side, place and modality.
        prediction: what trained students are predicted to keep, or None where nothing can tell.
        choice: the recommended depth.
        folder: where the profile lies, if it was written or read.
    """

    model: str
    data: str
    depth: int
    dimension: int
    measured: Measurement
    parts: Parameters
    costs: tuple[DepthCost, ...]
    readout: tuple[TaskReadout, ...]
    retention: dict[str, Retention]
    bridges: dict[str, tuple[BridgeFit, ...]]
    similarity: tuple[LayerSimilarity, ...]
    prediction: Prediction | None
    choice: Choice
    folder: Path | None = None

    @property
    def recommended(self) -> int:
        """The number of decoder layers to keep."""
        return self.choice.k

    @property
    def cut(self) -> str:
        """The recommended way to cut, a key of `CUTS`."""
        return "keep_last" if self.choice.keep_last else PLAIN

    @property
    def layers(self) -> tuple[int, ...]:
        """The decoder layers to keep, ascending."""
        named = keep_last_layers if self.choice.keep_last else first_layers
        return named(self.choice.k, self.depth)

    @property
    def reason(self) -> str:
        """Why, in words."""
        return self.choice.reason

    @property
    def split(self) -> str:
        """The split that the queries come from."""
        return self.measured.split

    @property
    def partial(self) -> bool:
        """Whether queries or candidates were left out."""
        return self.measured.partial

    @property
    def queries(self) -> int:
        """Number of queries over all tasks."""
        return sum(task.queries for task in self.readout)

    @property
    def parameters(self) -> tuple[int, ...]:
        """Parameters of the model cut at depths 0 to L, (L + 1,)."""
        return tuple(self.parts.at(k) for k in range(self.depth + 1))

    @property
    def readings(self) -> tuple[str, ...]:
        """The ways of reading a cut that were measured."""
        return tuple(self.readout[0].scores)

    def depths(self, reading: str) -> range:
        """Return the depths at which a reading says anything."""
        return read_depths(reading, self.depth)

    @property
    def doubts(self) -> tuple[str, ...]:
        """In what the prediction for the recommended cut goes beyond what it was fitted on."""
        if self.prediction is None:
            return ()
        low, high = self.prediction.fitted_on.shares
        part = self.recommended / self.depth
        if low <= part <= high or part == 1.0:
            return self.prediction.outside
        return (
            *self.prediction.outside,
            f"The cut keeps {part:.0%} of the layers; the prediction was fitted on cuts to "
            f"{low:.0%} to {high:.0%}.",
        )

    def mean(self, metric: str = "hit@1", reading: str = PLAIN) -> tuple[float, ...]:
        """Return the plain mean of `metric` over tasks at depths 0 to L, (L + 1,)."""
        return mean_curve(self.readout, metric, reading)

    def kept(self, k: int, metric: str = "hit@1", reading: str = PLAIN) -> float | None:
        """Return the share of the full model's score kept at depth k, or None of a score of 0."""
        curve = self.mean(metric, reading)
        return curve[k] / curve[-1] if curve[-1] else None

    def angular_to_final(self, k: int) -> float:
        """Return the mean angular distance, over all inputs, of h[k] to h[L], in [0, 1]."""
        return self.over_inputs([entry.angular_to_final[k] for entry in self.at_embed])

    def block_influence(self, layer: int) -> float:
        """Return the block influence, over all inputs, of decoder layer `layer` (0 to L - 1)."""
        return self.over_inputs([entry.block_influence[layer] for entry in self.at_embed])

    @property
    def at_embed(self) -> tuple[LayerSimilarity, ...]:
        """The similarity at the embed token, one entry for each side and modality."""
        return tuple(entry for entry in self.similarity if entry.place == "embed")

    def over_inputs(self, values: list[float]) -> float:
        """Return the mean of one value for each entry of `at_embed`, weighted by its inputs."""
        counts = [entry.count for entry in self.at_embed]
        return sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)


def mean_curve(
    readout: tuple[TaskReadout, ...], metric: str, reading: str = PLAIN
) -> tuple[float, ...]:
    """Return the plain mean of `metric` over tasks at every depth, (L + 1,)."""
    columns = zip(*(task.scores[reading][metric] for task in readout), strict=True)
    return tuple(sum(column) / len(readout) for column in columns)


def write_profile(profile: LayerProfile, folder: Path) -> None:
    """Write `profile.json` into `folder`."""
    content = to_plain(profile)
    del content["folder"]
    write_json(folder / PROFILE, {"format": FORMAT, **content})


def read_profile(folder: str | Path) -> LayerProfile:
    """Read the profile in a folder written by `analyze`.

    Raises:
        CheckpointError: the folder holds no profile, or one that this version cannot read.
    """
    path = Path(folder) / PROFILE
    if not path.is_file():
        raise CheckpointError(
            f"`{folder}` holds no {PROFILE}.",
            cause="It is no folder written by `puma analyze`."
            if path.parent.is_dir()
            else "There is no such folder.",
            hint="Make one with `puma analyze MODEL --data D --output-dir P`.",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("it was written by another version")
        profile = build(LayerProfile, {**content, "folder": None})
        _check(profile)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"`{path}` cannot be read.",
            cause=f"{type(error).__name__}: {error}",
            hint="Run `puma analyze` again.",
        ) from error
    return replace(profile, folder=Path(folder))


def _check(profile: LayerProfile) -> None:
    if not 1 <= profile.recommended <= profile.depth:
        raise ValueError(
            f"the recommended depth {profile.recommended} is not in 1..{profile.depth}"
        )
    curves = [
        curve
        for task in profile.readout
        for metrics in task.scores.values()
        for curve in metrics.values()
    ]
    if any(len(curve) != profile.depth + 1 for curve in [profile.parameters, *curves]):
        raise ValueError(f"a list does not have one value for each of {profile.depth + 1} depths")

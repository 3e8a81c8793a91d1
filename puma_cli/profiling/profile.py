"""What an analysis found out about a model, as one frozen record and one JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.layout import PROFILE
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.checkpoint.provenance import to_plain
from puma_cli.errors import CheckpointError
from puma_cli.profiling.choice import Choice
from puma_cli.profiling.similarity import LayerSimilarity

FORMAT = 1


@dataclass(frozen=True)
class TaskReadout:
    """Retrieval on one task by the untrained model cut at each depth.

    Args:
        task: name such as `scenes_task0`.
        queries: number of queries scored (>= 1).
        candidates: size of the task's local pool.
        scores: for each metric, such as `hit@1`, its value at depths 0 to L, (L + 1,), in [0, 1].
    """

    task: str
    queries: int
    candidates: int
    scores: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class LayerProfile:
    """The layers of one model on one data set.

    Args:
        model: how the user named the model.
        data: how the user named the data set.
        split: the split the numbers come from.
        partial: True if only some queries of each task were used.
        depth: number of decoder layers L.
        dimension: length D of the embedding.
        parameters: parameters of the model cut at depths 0 to L, (L + 1,).
        readout: one entry for each task.
        similarity: one entry for each side and modality.
        choice: the recommended depth.
        folder: where the profile lies, if it was written or read.
    """

    model: str
    data: str
    split: str
    partial: bool
    depth: int
    dimension: int
    parameters: tuple[int, ...]
    readout: tuple[TaskReadout, ...]
    similarity: tuple[LayerSimilarity, ...]
    choice: Choice
    folder: Path | None = None

    @property
    def recommended(self) -> int:
        """The number of first decoder layers to keep."""
        return self.choice.k

    @property
    def reason(self) -> str:
        """Why, in words."""
        return self.choice.reason

    @property
    def queries(self) -> int:
        """Number of queries over all tasks."""
        return sum(task.queries for task in self.readout)

    def mean(self, metric: str = "hit@1") -> tuple[float, ...]:
        """Return the plain mean of `metric` over tasks at depths 0 to L, (L + 1,)."""
        return mean_curve(self.readout, metric)

    def retention(self, k: int, metric: str = "hit@1") -> float | None:
        """Return the share of the full model's score kept at depth k, or None of a score of 0."""
        curve = self.mean(metric)
        return curve[k] / curve[-1] if curve[-1] else None

    def angular_to_final(self, k: int) -> float:
        """Return the mean angular distance, over all inputs, of h[k] to h[L], in [0, 1]."""
        return self.over_inputs([entry.angular_to_final[k] for entry in self.similarity])

    def block_influence(self, layer: int) -> float:
        """Return the block influence, over all inputs, of decoder layer `layer` (0 to L - 1)."""
        return self.over_inputs([entry.block_influence[layer] for entry in self.similarity])

    def over_inputs(self, values: list[float]) -> float:
        """Return the mean of one value for each entry of `similarity`, weighted by its inputs."""
        counts = [entry.count for entry in self.similarity]
        return sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)


def mean_curve(readout: tuple[TaskReadout, ...], metric: str) -> tuple[float, ...]:
    """Return the plain mean of `metric` over tasks at every depth, (L + 1,)."""
    columns = zip(*(task.scores[metric] for task in readout), strict=True)
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
        profile = _build(content)
        _check(profile)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"`{path}` cannot be read.",
            cause=f"{type(error).__name__}: {error}",
            hint="Run `puma analyze` again.",
        ) from error
    return replace(profile, folder=Path(folder))


def _build(content: dict[str, Any]) -> LayerProfile:
    values = dict(content)
    values["parameters"] = tuple(content["parameters"])
    values["readout"] = tuple(
        TaskReadout(**{**row, "scores": {name: tuple(v) for name, v in row["scores"].items()}})
        for row in content["readout"]
    )
    values["similarity"] = tuple(_similarity(entry) for entry in content["similarity"])
    values["choice"] = Choice(**content["choice"])
    return LayerProfile(**values)


def _similarity(entry: dict[str, Any]) -> LayerSimilarity:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()
    }
    return LayerSimilarity(**values)


def _check(profile: LayerProfile) -> None:
    if not 1 <= profile.recommended <= profile.depth:
        raise ValueError(
            f"the recommended depth {profile.recommended} is not in 1..{profile.depth}"
        )
    curves = [curve for task in profile.readout for curve in task.scores.values()]
    if any(len(curve) != profile.depth + 1 for curve in [profile.parameters, *curves]):
        raise ValueError(f"a list does not have one value for each of {profile.depth + 1} depths")

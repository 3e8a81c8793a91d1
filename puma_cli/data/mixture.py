"""How often each task of a training's data is shown in an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from puma_cli.config.training_settings import BatchSettings
from puma_cli.data.mbeir import TaskName, is_asked_for
from puma_cli.errors import ConfigError


class Mixture:
    """Draws of each task's queries in an epoch, as many in all as there are queries.

    Of task s with n_s queries, weight_s * n_s^balance out of the sum over all tasks: 1 shows every
    query once, 0 shows all tasks equally often (temperature sampling, with 1 / temperature in place
    of `balance`).

    Args:
        tasks: the task of each query.
        weights: factors by glob over tasks or data sets, such as `cirr=2`; the first that matches
            counts.
        balance: the exponent [0, 1].

    Raises:
        ConfigError: a weight cannot be read, or decides about no task.
    """

    def __init__(
        self, tasks: Sequence[TaskName], weights: Sequence[str] = (), balance: float = 1.0
    ) -> None:
        sizes = Counter(tasks)
        globs = [_read(weight) for weight in weights]
        left = set(sizes)
        for glob, _ in globs:
            matched = {task for task in sizes if is_asked_for(task, glob)}
            if matched and not matched & left:
                raise ConfigError(
                    f"batch.weights names {glob!r}, which has no effect.",
                    cause="The first that matches a task counts: those before it match all of its.",
                    hint="Name tasks before the data sets that they belong to.",
                )
            left -= matched
            if not matched:
                raise ConfigError(
                    f"batch.weights names {glob!r}, which matches no task of the data.",
                    hint=f"The tasks are: {', '.join(sorted(task.name for task in sizes))}.",
                )
        wanted = {task: _factor(task, globs) * size**balance for task, size in sizes.items()}
        if not any(wanted.values()):
            raise ConfigError("batch.weights leaves out every task of the data.")
        self._draws = _apportion(wanted, len(tasks))

    def draws(self, task: TaskName) -> int:
        """Return how many queries of a task an epoch shows."""
        return self._draws[task]

    def order(
        self, groups: Mapping[TaskName, Sequence[int]], random: np.random.Generator
    ) -> list[int]:
        """Return an epoch's queries of these tasks, evenly mixed.

        A query comes again only when all of its task have come.

        Args:
            groups: the queries of each task.
        """
        places, keys = list[int](), list[np.ndarray]()
        for task, queries in groups.items():
            count = self._draws[task]
            passes = [random.permutation(len(queries)) for _ in range(-(-count // len(queries)))]
            drawn = np.concatenate(passes)[:count] if passes else np.empty(0, dtype=int)
            places += [queries[int(i)] for i in drawn]
            # The n-th of N somewhere in the n-th of N equal parts of the epoch.
            keys.append((np.arange(count) + random.random(count)) / max(1, count))
        return [places[i] for i in np.argsort(np.concatenate(keys), kind="stable")]


def mixture_of(tasks: Sequence[TaskName], settings: BatchSettings) -> Mixture | None:
    """Return what the settings ask for, or None where an epoch shows every query once."""
    if not settings.weights and settings.balance == 1.0:
        return None
    return Mixture(tasks, settings.weights, settings.balance)


def _read(weight: str) -> tuple[str, float]:
    glob, _, number = weight.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = -1.0
    if not glob or not 0 <= factor < float("inf"):
        raise ConfigError(
            f"batch.weights holds {weight!r}, which is no weight.",
            hint="Give tasks and factors of 0 or more, such as cirr=2,mscoco_task0=0.5.",
        )
    return glob.strip(), factor


def _factor(task: TaskName, globs: Sequence[tuple[str, float]]) -> float:
    return next((factor for glob, factor in globs if is_asked_for(task, glob)), 1.0)


def _apportion(wanted: Mapping[TaskName, float], total: int) -> dict[TaskName, int]:
    """Return whole numbers in proportion to what is wanted, with this sum (largest remainders)."""
    scale = total / sum(wanted.values())
    exact = {task: share * scale for task, share in wanted.items()}
    found = {task: int(share) for task, share in exact.items()}
    rest = sorted(exact, key=lambda task: found[task] - exact[task])
    for task in rest[: total - sum(found.values())]:
        found[task] += 1
    return found

"""What is said when a training runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from puma_cli.config.training_settings import DistillSettings
from puma_cli.data.training_data import TrainingData
from puma_cli.distillation.forecast.memory import opened_bytes, plan_memory
from puma_cli.distillation.forecast.remedies import Remedy, find_remedies
from puma_cli.distillation.forecast.survey import Survey, survey
from puma_cli.distillation.loop import Training
from puma_cli.distillation.output import TrainingFolder
from puma_cli.errors import DeviceError, is_out_of_memory
from puma_cli.processes import ALONE, Processes
from puma_cli.report.numbers import size_on_disk


@contextmanager
def memory_explained(
    settings: DistillSettings,
    data: TrainingData,
    output: TrainingFolder,
    processes: Processes,
    training: Callable[[], Training | None] = lambda: None,
) -> Iterator[None]:
    """Turn a lack of memory into a DeviceError with ways out, from the settings at hand.

    The last saved state stays as it is: what a step that failed half-way left is not saved.

    Args:
        training: gives the training as it stands, or None before it is ready.

    Raises:
        DeviceError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise _explained(error, settings, data, output, processes, training()) from error


def _explained(
    error: Exception,
    settings: DistillSettings,
    data: TrainingData,
    output: TrainingFolder,
    processes: Processes,
    training: Training | None,
) -> DeviceError:
    when = "before its first step"
    saved, first = None, 0
    if training is not None:
        saved, first = training.states.saved_step, training.progress.step
        when = f"after {first} of {training.steps} steps"
    each = settings.batch.accumulate
    # Each process may be alone with its lack, so none may wait for another here.
    batches = range(first * each, (first + 1) * each)
    try:
        found = survey(settings, data, output, ALONE, batches, shared_by=processes.count)
    except Exception:
        # It takes memory too; what is known without it is better than another error.
        found = None
    return lack_of_memory(error, when, settings, found, saved, begun=training is not None)


def lack_of_memory(
    error: Exception,
    when: str,
    settings: DistillSettings,
    found: Survey | None,
    saved: int | None = None,
    begun: bool = False,
) -> DeviceError:
    """Return the error that says what a training would need, and what helps.

    Args:
        when: how far it had come, in words.
        found: its models and batches, or None if they cannot be looked at.
        saved: the step of its newest state, if there is one.
        begun: whether its output folder holds something of it.
    """
    said = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    return DeviceError(
        f"The training ran out of memory {when}.",
        cause="\n".join([said[0], *([] if found is None else [_held(settings, found)])]),
        hint=_ways_out(settings, found, saved, begun),
    )


def _held(settings: DistillSettings, found: Survey) -> str:
    plan = plan_memory(settings, found)
    parts = {
        "weights": plan.student + plan.teacher,
        "gradients and moments": plan.gradients + plan.moments,
        "activations": plan.activations,
    }
    named = ", ".join(f"{name} {size_on_disk(size)}" for name, size in parts.items())
    return (
        f"By estimate it takes {size_on_disk(plan.total)}: {named}; both models, as they are "
        f"opened, {size_on_disk(opened_bytes(settings, found))}."
    )


def _ways_out(
    settings: DistillSettings, found: Survey | None, saved: int | None, begun: bool
) -> str:
    remedies = [] if found is None else find_remedies(settings, found)
    lines = ["What helps, the most first:"] if remedies else ["Take a larger device."]
    lines += [f"{n}. {each.change}: {each.effect}." for n, each in enumerate(remedies, start=1)]
    if not begun:
        lines.append("Nothing was written.")
    elif saved is None:
        lines.append("No state was saved yet: start again with one of these and --overwrite.")
    else:
        lines.append(_going_on(remedies, saved))
    return "\n".join(lines)


def _going_on(remedies: Sequence[Remedy], saved: int) -> str:
    numbers = [str(n) for n, each in enumerate(remedies, start=1) if each.resumable]
    others = [str(n) for n, each in enumerate(remedies, start=1) if not each.resumable]
    text = f"The state of step {saved} is saved"
    if numbers:
        text += f": the same command with {' or '.join(numbers)} and --resume goes on from it"
    if others:
        verb = "starts" if len(others) == 1 else "start"
        text += f"; {' and '.join(others)} {verb} anew, with --overwrite"
    return f"{text}."

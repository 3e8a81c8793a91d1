"""The map from a student's embeddings to a teacher's of another length, fitted before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.stored_teacher import StoredTeacher
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.errors import DataError
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.processes import Processes
from puma_cli.profiling.bridges.ridge import Moments, Ridge, choose_strength
from puma_cli.progress import Reporter

# Inputs that the map is fitted on at most, every tenth of them held out to choose its strength.
ROWS = 8_000
HELD_OUT = 10
BATCH = 128


def ready_projection(
    projection: nn.Linear,
    path: Path,
    pair: Pair,
    inputs: Sequence[Input],
    cache: TeacherCache | StoredTeacher | None,
    processes: Processes,
    reporter: Reporter,
) -> None:
    """Give a projection the ridge map from the untrained student to the teacher.

    It is written down, and read again by a training that goes on: the student has moved by then.

    Args:
        path: where it is written.
        inputs: what training shows.
        cache: the teacher's embeddings, filled, or None to ask the teacher of the pair.

    Raises:
        DataError: there are too few inputs.
    """
    if not processes.first(path.is_file):
        weight, bias = _fit(projection, pair, inputs[:ROWS], cache, processes, reporter)
        state = {"weight": weight.T.float().contiguous().cpu(), "bias": bias.float().cpu()}

        def write() -> None:
            with explained_writes(path):
                draft = path.with_suffix(".partial")
                save_file(state, draft)
                draft.replace(path)

        processes.first(write)
    projection.load_state_dict(load_file(path))


@torch.no_grad()
def _fit(
    projection: nn.Linear,
    pair: Pair,
    inputs: Sequence[Input],
    cache: TeacherCache | StoredTeacher | None,
    processes: Processes,
    reporter: Reporter,
) -> tuple[Tensor, Tensor]:
    if len(inputs) < 2 * HELD_OUT:
        raise DataError(
            f"A projection is fitted on training inputs, and there are {len(inputs)}.",
            hint="Set loss.projection=none and compare scores: loss.similarity, loss.gram.",
        )
    embedder = pair.embedder
    # Of few inputs a process may have none, and brings sums of zero.
    sizes, device = (projection.in_features, projection.out_features), embedder.device
    kinds = Moments(*sizes, device), Moments(*sizes, device)
    with evaluation_mode(embedder.model):
        for places, batch in embedder.batches(inputs, BATCH, reporter, "project", processes):
            ours, theirs = pair.embed(batch, pair.see(batch), with_teacher=cache is None)
            ours = ours[:, : ours.shape[1] - pair.inner]
            if cache is not None:
                theirs = cache.vectors([inputs[place] for place in places])
            assert theirs is not None
            theirs = theirs[:, : theirs.shape[1] - pair.inner].to(ours.device)
            held = torch.tensor([place % HELD_OUT == 0 for place in places], device=ours.device)
            for moments, chosen in zip(kinds, (~held, held), strict=True):
                moments.add(ours[chosen], theirs[chosen])
    fitted, judged = kinds
    for moments in kinds:
        moments.share(processes)
    ridge = Ridge(fitted)
    found = ridge.fit(choose_strength(ridge, judged)[0])
    return found.weight, found.bias

"""The resumable state of a training: safetensors and JSON, replaced as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.distillation.gradients import is_sharded, whole_tensor
from puma_cli.distillation.random_state import random_state, set_random_state
from puma_cli.errors import CheckpointError
from puma_cli.processes import ALONE, Processes


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Args:
        step: optimizer steps done.
        best_step: step of the best validation, or 0 before the first.
        best_score: its mean hit@1 [0, 1], or -1.
        seconds: time spent training so far, over all sessions.
        first_loss: loss of the first step, or None before it.
    """

    step: int = 0
    best_step: int = 0
    best_score: float = -1.0
    seconds: float = 0.0
    first_loss: float | None = None


class StateFolder:
    """The states of one training, the newest of which a resume takes up.

    What all processes hold alike is written once, by the first; so a training can go on with
    another number of processes. All of them must call its methods together.

    Args:
        folder: where they lie, each in a folder of its own.
        model: what is trained.
        keep: how many of the last states stay (>= 1).
        device: where random numbers are drawn besides the CPU.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: Optimizer,
        device: torch.device,
        keep: int = 1,
        processes: Processes = ALONE,
    ) -> None:
        self._folder, self._keep, self._device = folder, keep, device
        self._model, self._optimizer, self._processes = model, optimizer, processes

    def save(self, progress: Progress) -> None:
        """Write the trained weights, the optimizer's moments and every process's random state.

        The new state is complete under its own name before an old one goes; a state of the same
        step stays as it is.

        Raises:
            OutputError: the disk is full or refuses; the old states are still whole.
        """
        target = self._folder / f"state-{progress.step:08d}"
        if self._processes.first(target.exists):
            return
        random = self._processes.gather(random_state(self._device))
        weights = self._collected(dict(self._parameters()))
        moments = self._collected(self._moments())
        self._processes.first(lambda: self._write(target, progress, weights, moments, random))

    @property
    def saved_step(self) -> int | None:
        """The step of the newest state, if there is one."""
        path = self._newest()
        return None if path is None else int(path.name.removeprefix("state-"))

    def _newest(self) -> Path | None:
        return max(self._folder.glob("state-*"), default=None)

    def load(self) -> tuple[Progress, int] | None:
        """Put the newest state back; return how far it had come, on how many processes, or None.

        Raises:
            CheckpointError: a file is missing, broken or of another model.
        """
        path = self._newest()
        if path is None:
            return None
        try:
            progress = Progress(**json.loads((path / "progress.json").read_text(encoding="utf-8")))
            weights = load_file(path / "weights.safetensors")
            moments = load_file(path / "optimizer.safetensors")
            random = load_file(path / "random.safetensors")
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"The training state {path} cannot be read.",
                cause=str(error),
                hint="Start again with --overwrite.",
            ) from error
        parameters = dict(self._parameters())
        if parameters.keys() != weights.keys():
            odd = sorted(parameters.keys() ^ weights.keys())[0]
            raise CheckpointError(
                f"The training state {path} belongs to another model.",
                cause=f"{odd} is in one only.",
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(_as_it_lies(weights[name], parameter))
        self._put_moments(parameters, moments)
        count = sum(name.startswith("cpu.") for name in random)
        if count == self._processes.count:
            here = self._processes.place
            set_random_state((random[f"cpu.{here}"], random.get(f"cuda.{here}")), self._device)
        return progress, count

    def _write(
        self,
        target: Path,
        progress: Progress,
        weights: dict[str, Tensor],
        moments: dict[str, Tensor],
        random: list[tuple[Tensor, Tensor | None]],
    ) -> None:
        draft = self._folder / ".state.partial"
        shutil.rmtree(draft, ignore_errors=True)
        states = {f"cpu.{place}": here for place, (here, _) in enumerate(random)}
        states |= {
            f"cuda.{place}": there for place, (_, there) in enumerate(random) if there is not None
        }
        try:
            with explained_writes(self._folder):
                draft.mkdir(parents=True)
                save_file(weights, draft / "weights.safetensors")
                save_file(moments, draft / "optimizer.safetensors")
                save_file(states, draft / "random.safetensors")
                text = json.dumps(asdict(progress))
                (draft / "progress.json").write_text(text, encoding="utf-8")
                draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in sorted(self._folder.glob("state-*"))[: -self._keep]:
            # Away under its own name at once: half a state would look like one to resume.
            gone = self._folder / f".{old.name}.old"
            old.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        named = self._model.named_parameters()
        return [(name, value) for name, value in named if value.requires_grad]

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"{key}/{name}": torch.as_tensor(value)
            for name, parameter in self._parameters()
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }

    def _put_moments(
        self, parameters: Mapping[str, nn.Parameter], moments: Mapping[str, Tensor]
    ) -> None:
        for name_with_key, value in moments.items():
            key, _, name = name_with_key.partition("/")
            state = self._optimizer.state[parameters[name]]
            state[key] = (
                _as_it_lies(value, parameters[name]) if value.ndim else self._counter(value)
            )

    def _counter(self, value: Tensor) -> Tensor:
        # AdamW counts its steps on the CPU, unless one kernel updates everything.
        fused = self._optimizer.defaults.get("fused")
        return value.to(self._device) if fused else value

    def _collected(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors in one piece on the CPU, in the process that writes them."""
        found = {}
        for name, value in tensors.items():
            whole = whole_tensor(value.detach())
            if self._processes.is_main:
                found[name] = whole.cpu().contiguous()
        return found


def _as_it_lies(value: Tensor, like: Tensor) -> Tensor:
    """Return a tensor on the device of another, and in parts where that one is."""
    there = value.to(like.device)
    if not is_sharded(like):
        return there
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(there, mesh, placements)

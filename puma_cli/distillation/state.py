"""The resumable state of a training: safetensors and JSON, replaced as a whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.errors import CheckpointError


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Args:
        step: optimizer steps done.
        best_step: step of the best validation, or 0 before the first.
        best_score: its mean hit@1 [0, 1], or -1.
        seconds: time spent training so far, over all sessions.
    """

    step: int = 0
    best_step: int = 0
    best_score: float = -1.0
    seconds: float = 0.0


def save_state(folder: Path, model: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
    """Write the trainable weights, the optimizer's moments and the random state.

    The new state is complete under its own name before the old one goes; a state of the same step
    stays as it is.

    Raises:
        OutputError: the disk is full or refuses; the old state is still whole.
    """
    target = folder / f"state-{progress.step:08d}"
    if target.exists():
        return
    draft = folder / ".state.partial"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with explained_writes(folder):
            draft.mkdir(parents=True)
            save_file(_trainable(model), draft / "weights.safetensors")
            save_file(_moments(model, optimizer), draft / "optimizer.safetensors")
            save_file(_random_state(), draft / "random.safetensors")
            (draft / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
            draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for old in folder.glob("state-*"):
        if old != target:
            shutil.rmtree(old)


def latest_state(folder: Path) -> Path | None:
    """Return the newest complete state below `folder`, or None."""
    return max(folder.glob("state-*"), default=None)


def load_state(path: Path, model: nn.Module, optimizer: Optimizer) -> Progress:
    """Put a saved state back and return how far it had come.

    Raises:
        CheckpointError: a file is missing, broken or of another model.
    """
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
    parameters = dict(_named_trainable(model))
    if parameters.keys() != weights.keys():
        odd = sorted(parameters.keys() ^ weights.keys())[0]
        raise CheckpointError(
            f"The training state {path} belongs to another model.", cause=f"{odd} is in one only."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    _restore_moments(parameters, optimizer, moments)
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])
    return progress


def _named_trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in _named_trainable(model)}


def _moments(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{key}/{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for name, parameter in _named_trainable(model)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_moments(
    parameters: dict[str, nn.Parameter], optimizer: Optimizer, moments: dict[str, Tensor]
) -> None:
    for name_with_key, value in moments.items():
        key, _, name = name_with_key.partition("/")
        parameter = parameters[name]
        # AdamW keeps its step counter on the CPU whatever the device.
        place = torch.device("cpu") if key == "step" else parameter.device
        state: dict[str, Any] = optimizer.state[parameter]
        state[key] = value.to(place)


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state

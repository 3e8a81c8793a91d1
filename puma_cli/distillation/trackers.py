"""Where else a training's numbers go as they come: TensorBoard and its like, through accelerate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.checkpoint.provenance import to_plain
from puma_cli.config.changes import flattened
from puma_cli.config.training_settings import AUTO, NO_TRACKERS, DistillSettings
from puma_cli.errors import ConfigError

PROJECT = "puma"
TENSORBOARD = "tensorboard"
# What pip calls the package of a tracker, where that is not the tracker's own name.
_PACKAGES = {TENSORBOARD: "'puma-cli[tensorboard]'", "comet_ml": "comet-ml"}


def choose_trackers(names: tuple[str, ...]) -> list[str]:
    """Return the trackers to use; `auto` is TensorBoard where it is installed.

    Raises:
        ConfigError: the package of a named tracker is missing, or `none` is one of several.
    """
    if NO_TRACKERS in names:
        if len(names) > 1:
            raise ConfigError(
                f"train.trackers = {','.join(names)} contradicts itself.",
                hint="Leave out `none`, or everything else.",
            )
        return []
    wanted = dict.fromkeys(TENSORBOARD if name == AUTO else name for name in names)
    missing = [name for name in wanted if find_spec(name) is None]
    for name in missing:
        if name in names:
            raise ConfigError(
                f"train.trackers names {name}, which is not installed.",
                hint=f"Type: pip install {_PACKAGES.get(name, name)}",
            )
    return [name for name in wanted if name not in missing]


def accelerator_options(names: list[str], folder: Path) -> dict[str, Any]:
    """Return what an Accelerator has to know of the trackers.

    Args:
        names: from `choose_trackers`.
        folder: the training's output folder.
    """
    from accelerate.utils import ProjectConfiguration

    # A folder of its own: nothing that opens a checkpoint looks there.
    places = ProjectConfiguration(logging_dir=str(folder / LAYOUT.tensorboard))
    return {"log_with": list(names), "project_config": places} if names else {}


def start_trackers(accelerator: Any, settings: DistillSettings, step: int) -> None:
    """Open the accelerator's trackers and tell them the settings.

    Args:
        step: steps that are done already; what TensorBoard knows beyond them is hidden, since it is
            computed again.
    """
    name = settings.output_dir.resolve().name
    accelerator.init_trackers(
        PROJECT,
        init_kwargs={
            TENSORBOARD: {"purge_step": step + 1} if step else {},
            # A resumed training is a run of its own there, beside the others of its group.
            "wandb": {"name": name, "group": name},
        },
    )
    plain = to_plain(settings)
    for tracker in accelerator.trackers:
        if tracker.name != TENSORBOARD:
            tracker.store_init_configuration(flattened(plain))
        elif not step:
            # Its own form for settings would be one more run in every list.
            text = json.dumps(plain, indent=2)
            tracker.log({"settings": f"```json\n{text}\n```"}, step=0)


def close_trackers(accelerator: Any) -> None:
    """Let the trackers write what they still hold."""
    for tracker in accelerator.trackers:
        tracker.finish()


def tagged(values: Mapping[str, float]) -> dict[str, float]:
    """Return a log's values under names that trackers group: `train/` and `validation/`."""
    return {
        f"{'validation' if '@' in name or name == 'retention' else 'train'}/{name}": value
        for name, value in values.items()
    }

"""Several profiles side by side, and what to know before reading one against another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from puma_cli.errors import ConfigError
from puma_cli.profiling.profile import LayerProfile, read_profile


@dataclass(frozen=True)
class ProfileComparison:
    """Profiles of several models, or of one model on several data sets.

    Args:
        profiles: as they were named, each with its folder.
        notes: where they were not measured alike, in sentences.
    """

    profiles: tuple[LayerProfile, ...]
    notes: tuple[str, ...]

    @property
    def depth(self) -> int:
        """The largest number of decoder layers."""
        return max(profile.depth for profile in self.profiles)

    @property
    def names(self) -> tuple[str, ...]:
        """What tells the profiles apart: the models, or else the data sets, or else the folders."""
        for name in (_model, _data):
            found = [name(profile) for profile in self.profiles]
            if len(set(found)) == len(found):
                return tuple(found)
        return tuple(str(profile.folder) for profile in self.profiles)


def compare_profiles(folders: Sequence[str | Path]) -> ProfileComparison:
    """Read the profiles in two or more folders.

    Raises:
        CheckpointError: a folder holds no profile, or one that this version cannot read.
        ConfigError: fewer than two folders.
    """
    if len(folders) < 2:
        raise ConfigError(
            "A comparison needs at least two profiles.",
            hint="Name both folders: puma compare PROFILE PROFILE.",
        )
    profiles = tuple(read_profile(folder) for folder in folders)
    return ProfileComparison(profiles, tuple(_notes(profiles)))


def _notes(profiles: Sequence[LayerProfile]) -> list[str]:
    measured = [profile.measured for profile in profiles]
    sizes = {tuple((row.task, row.queries, row.candidates) for row in p.readout) for p in profiles}
    notes = []
    if _differ(profiles, _data) or _differ(profiles, lambda profile: profile.split):
        notes.append(
            "They were measured on different data: what each keeps can be compared, scores cannot."
        )
    elif len(sizes) > 1:
        notes.append(
            "They were measured on different queries or pools of the same data: a smaller pool is "
            "an easier one."
        )
    if any(how.stopped for how in measured):
        notes.append("An analysis that was stopped early has measured less than it was asked to.")
    if len({(how.device, how.dtype, how.batch_size) for how in measured}) > 1:
        notes.append(
            "They were timed on different devices, in different number formats or batch sizes: "
            "times cannot be compared."
        )
    return notes


def _differ(profiles: Sequence[LayerProfile], what: Callable[[LayerProfile], str]) -> bool:
    return len({what(profile) for profile in profiles}) > 1


def _model(profile: LayerProfile) -> str:
    return Path(profile.model).name


def _data(profile: LayerProfile) -> str:
    return Path(profile.data).name

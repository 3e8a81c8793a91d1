"""Recipes of several trainings, each of which starts from the student of the one before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from puma_cli.config.loading import (
    STAGES,
    Complete,
    Layer,
    assignments,
    build_settings,
    given,
    merged,
    paths_of,
)
from puma_cli.config.recipe import read_config
from puma_cli.config.suggestion import did_you_mean
from puma_cli.config.training_settings import DistillSettings
from puma_cli.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
# Settings of a run as a whole: a stage has none of its own.
WHOLE = (
    "student",
    "output_dir",
    "fresh",
    "device",
    "dtype",
    "stop_after",
    "dry_run",
    "resume",
    "overwrite",
    "full_hash",
)
# What a stage of a recipe says of these stands against what the command line says for all: `--data`
# is then the data of the other stages.
INPUTS = ("teacher", "data", "tasks")
_EXAMPLE = "Write a list, each entry with a name: `- name: text` and its settings below it."


@dataclass(frozen=True)
class TrainingStage:
    """One of several trainings that follow one another.

    Args:
        name: letters, digits, `-` and `_`, at most 32, the first a letter or a digit.
        settings: as for this training alone; `student` and `output_dir` are those of the whole run.
    """

    name: str
    settings: DistillSettings


def load_stages(
    *,
    config: str | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    complete: Complete | None = None,
) -> tuple[TrainingStage, ...]:
    """Build the settings of every stage of a recipe; empty for a recipe without stages.

    From weak to strong: what the recipe says for all stages, what it says for this one, assignments
    and flags for all, assignments such as `stages.NAME.train.steps=10` for this one.

    Args:
        config: name of a shipped recipe, or a YAML file.
        overrides: see `load_settings`; those that begin with `stages.NAME.` are for one stage.
        flags: see `load_settings`.
        complete: see `load_settings`; it is asked for every stage.

    Raises:
        ConfigError: an unknown key or stage, an illegal value, or a required setting is missing.
    """
    content = dict(read_config(config)) if config is not None else {}
    typed = assignments(overrides)
    named = {key: typed.pop(key) for key in list(typed) if key.partition(".")[0] == STAGES}
    if STAGES not in content:
        _check_no_stages(named, content, config)
        return ()
    entries = _entries(content.pop(STAGES), f"in {config}")
    own = _by_stage(named, entries, str(config))
    common = Layer(content, f"in {config}")
    for_all = (Layer(typed, "in --set", is_text=True), given(flags))
    # What concerns all stages is looked at first, so that no error puts it down to one of them.
    merged(DistillSettings, [common, *for_all])
    _check_heard(for_all, entries, own)
    stages = []
    for name, entry in entries.items():
        layers = [
            common,
            Layer(entry, f"in {config}"),
            *(replace(layer, values=_without(layer.values, entry)) for layer in for_all),
            Layer(own[name], "in --set", is_text=True),
        ]
        try:
            stages.append(TrainingStage(name, build_settings(DistillSettings, layers, complete)))
        except ConfigError as error:
            error.problem = f"Stage {name}: {error.problem}"
            raise
    return tuple(stages)


def check_stages(stages: Sequence[TrainingStage]) -> None:
    """Refuse stages that are no run together.

    Raises:
        ConfigError: there are none, two share a name, they differ in what the whole run has, or a
            stage would fade a head that one before it has faded.
    """
    if not stages:
        raise ConfigError("There are no stages.", hint="Give at least one.")
    _check_names([stage.name for stage in stages], "in the stages")
    first = stages[0]
    for stage in stages[1:]:
        for field in WHOLE:
            value, other = getattr(stage.settings, field), getattr(first.settings, field)
            if value != other:
                raise ConfigError(
                    f"Stage {stage.name}: {field} is {value!r}, and {other!r} in {first.name}.",
                    hint="Give all stages of a run the same.",
                )
    fading = [stage.name for stage in stages if stage.settings.train.fade_head]
    if len(fading) > 1:
        raise ConfigError(
            f"Stage {fading[1]}: train.fade_head is set, and stage {fading[0]} has it set too.",
            cause="What it starts from then has no head left to fade.",
            hint=f"Leave it to one: --set {STAGES}.{fading[1]}.train.fade_head=false.",
        )


def fold(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return settings by stage, as plain nested values, as one recipe: what all share, then each's.

    Args:
        settings: with the same keys for every stage.
    """
    common, own = _split(list(settings.values()))
    stages = [{"name": name, **part} for name, part in zip(settings, own, strict=True)]
    return {**common, STAGES: stages}


def _split(trees: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what all trees have alike, and what each has besides."""
    common: dict[str, Any] = {}
    own: list[dict[str, Any]] = [{} for _ in trees]
    for key in trees[0]:
        values = [tree[key] for tree in trees]
        parts: Sequence[Any] = values
        if all(value == values[0] for value in values):
            common[key] = values[0]
            continue
        if all(isinstance(value, Mapping) for value in values):
            shared, parts = _split(values)
            common |= {key: shared} if shared else {}
        for tree, part in zip(own, parts, strict=True):
            tree[key] = part
    return common, own


def _entries(content: Any, origin: str) -> dict[str, dict[str, Any]]:
    """Return what a recipe says of each stage, by its name."""
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{STAGES} {origin} is no list of stages: {content!r}", hint=_EXAMPLE)
    names = []
    for number, entry in enumerate(content, start=1):
        if not isinstance(entry, dict) or "name" not in entry:
            has = ", ".join(map(str, entry)) if isinstance(entry, dict) else repr(entry)
            raise ConfigError(
                f"Stage {number} {origin} has no name.", cause=f"It has: {has}", hint=_EXAMPLE
            )
        names.append(entry["name"])
    _check_names(names, origin)
    entries = {
        entry["name"]: {key: value for key, value in entry.items() if key != "name"}
        for entry in content
    }
    for name, entry in entries.items():
        for key in entry:
            _check_own(str(key), name, origin)
    return entries


def _check_names(names: Sequence[Any], origin: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"A stage {origin} cannot be called {name!r}.",
                hint="A name is text of letters, digits, - and _, 32 at most, and names a folder.",
            )
        # Some file systems do not tell Text from text.
        if name.lower() in seen:
            raise ConfigError(f"Two stages {origin} are called {name!r}.", hint="Rename one.")
        seen.add(name.lower())


def _check_own(key: str, name: str, origin: str) -> None:
    if key.partition(".")[0] in WHOLE:
        raise ConfigError(
            f"Stage {name}: {key} {origin} is not for one stage alone.",
            hint=f"Set it for all of them; a stage cannot change {', '.join(WHOLE)}.",
        )


def _by_stage(
    named: Mapping[str, str], entries: Mapping[str, Any], config: str
) -> dict[str, dict[str, str]]:
    """Return assignments to single stages by stage, then by setting."""
    own: dict[str, dict[str, str]] = {name: {} for name in entries}
    for key, text in named.items():
        _, _, rest = key.partition(".")
        name, _, setting = rest.partition(".")
        if name not in own:
            raise ConfigError(
                f"--set {key}: {config} has no stage {name!r}.",
                hint=did_you_mean(name, own) or f"Its stages: {', '.join(own)}",
            )
        if not setting:
            raise ConfigError(
                f"--set {key} names a stage, and none of its settings.",
                hint=f"Write {STAGES}.{name}.train.steps=10, for instance.",
            )
        _check_own(setting, name, "in --set")
        own[name][setting] = text
    return own


def _check_no_stages(
    named: Mapping[str, str], content: Mapping[str, Any], config: str | None
) -> None:
    for key in named:
        raise ConfigError(
            f"--set {key} is for one of several stages, and there are none.",
            hint=f"{config} has no stages." if config else "Name a recipe of stages with --config.",
        )
    known = paths_of(DistillSettings)
    heads = {path.partition(".")[0] for path in known}
    for key in content:
        if key.partition(".")[0] not in heads and did_you_mean(key, [*known, STAGES]) == (
            f"Did you mean {STAGES}?"
        ):
            raise ConfigError(
                f"Unknown setting {key!r} in {config}", hint=f"Did you mean {STAGES}?"
            )


def _check_heard(
    for_all: Sequence[Layer], entries: Mapping[str, Any], own: Mapping[str, Mapping[str, str]]
) -> None:
    """Refuse an input that is given for all stages, each of which has another one of its own."""
    for layer in for_all:
        for key in INPUTS:
            if key in layer.values and all(key in entries[n] or key in own[n] for n in entries):
                first = next(iter(entries))
                raise ConfigError(
                    f"{key} = {layer.values[key]} {layer.origin} reaches no stage.",
                    cause="Every stage has one of its own.",
                    hint=f"Set it for one of them, as in --set {STAGES}.{first}.{key}=...",
                )


def _without(values: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values less the inputs that a stage has of its own."""
    return {key: value for key, value in values.items() if key not in INPUTS or key not in entry}

"""What is to be run: questions in YAML, each a grid of variants over data sets and seeds."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from puma_cli.config.changes import flattened, say_value
from puma_cli.config.loading import STAGES, load_settings
from puma_cli.config.recipe import read_config
from puma_cli.config.stages import load_stages
from puma_cli.config.strict_yaml import parse_mapping
from puma_cli.config.suggestion import did_you_mean
from puma_cli.config.training_settings import DistillSettings
from puma_cli.errors import ConfigError

HERE = Path(__file__).parent
QUESTIONS, RECIPES, SETUP = HERE / "questions", HERE / "recipes", HERE / "setup.yaml"
OWN, NOBODY = "own", "none"
PUMA, SENTENCE_TRANSFORMERS = "puma", "sentence-transformers"
WHOLE = "whole"
# A way to choose layers and how many; or the layers themselves.
_CUT = re.compile(r"(?:first|keep-last|even|influence|cka) [1-9]\d*|layers [\d,-]+|whole")


@dataclass(frozen=True)
class DataSet:
    """Where a data set comes from, and what is usual on it.

    Args:
        model: the model that is cut there, and teaches.
        recipe: the base recipe there.
        metric: what is compared, such as `hit@1`.
        cut: the usual cut.
        scenes: options of `puma data scenes`, or None for one that is not drawn.
        variable: environment variable that names its folder, or empty for one that is drawn.
        seeds: seeds of the trainings.
    """

    name: str
    model: str
    recipe: str
    metric: str = "hit@1"
    cut: str = "first 4"
    scenes: Mapping[str, int] | None = None
    variable: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Model:
    """A model that is there, or how it is trained.

    Args:
        start: what its training starts from: `fresh`, another model's name, or empty for a model
            that puma or the environment `variable` names.
        data: the data set that it is trained on.
        recipe: how.
        set: settings over the recipe's.
        variable: environment variable that names its folder, if it is there already.
    """

    name: str
    start: str = ""
    data: str = ""
    recipe: str = ""
    set: Mapping[str, Any] = field(default_factory=dict)
    variable: str = ""


@dataclass(frozen=True)
class Run:
    """One student: everything that its weights and its scores follow from.

    Args:
        data: the data set's name.
        model: the model that is cut.
        cut: `first 4`, `keep-last 4`, `even 4`, `influence 4`, `cka 4`, `layers 0-2,11` or `whole`.
        seed: seed of the training; 0 without one.
        bridge: cut with a fitted head.
        trainer: what trains, or empty for a cut that is scored as it is.
        teacher: the teaching model's name, or `none`.
        recipe: name of the base recipe.
        settings: settings over the recipe's, dotted.
        base: the base recipe's settings, dotted.
        index: `own` for candidates by the student, `teacher` for candidates by `model`.
    """

    data: str
    model: str
    cut: str
    seed: int = 0
    bridge: bool = False
    trainer: str = PUMA
    teacher: str = NOBODY
    recipe: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    index: str = OWN

    @property
    def trained_key(self) -> str:
        """A short hash of what the weights follow from."""
        parts = asdict(self)
        for name in ("index", "recipe"):
            del parts[name]
        return _digest(parts)

    @property
    def key(self) -> str:
        """A short hash of what the scores follow from."""
        return _digest({"weights": self.trained_key, "index": self.index})

    @property
    def k(self) -> int | None:
        """How many layers stay, or None for all."""
        way, _, what = self.cut.partition(" ")
        if way == WHOLE:
            return None
        if way == "layers":
            from puma_cli.config.layers import parse_layers

            return len(parse_layers(what))
        return int(what)

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a setting's value, whichever layer has it."""
        return self.settings.get(name, self.base.get(name, default))

    def as_json(self) -> dict[str, Any]:
        """Return what a line of results says of it; the base recipe is in its key alone."""
        return {name: value for name, value in asdict(self).items() if name != "base"}


@dataclass(frozen=True)
class Row:
    """One variant on one data set: a row of a table, a run for each seed."""

    name: str
    data: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Question:
    """What is asked, and the runs that answer it.

    Args:
        name: the file's name.
        title: what is asked, in words.
        rows: the variants on each data set.
        baseline: the variant that the others are compared with.
        test: the variants that are scored on the test split.
        notes: sentences for under the table.
        students: lines of students that benchmarks/analyze/students.py has trained, if they count.
        profiles: data sets whose model is analyzed for its costs.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    baseline: str
    test: tuple[str, ...]
    notes: tuple[str, ...] = ()
    students: str = ""
    profiles: tuple[str, ...] = ()

    @property
    def data(self) -> tuple[str, ...]:
        """The data sets, in order."""
        return tuple(dict.fromkeys(row.data for row in self.rows))

    def of(self, data: str) -> tuple[Row, ...]:
        """Return the rows of one data set."""
        return tuple(row for row in self.rows if row.data == data)


@dataclass(frozen=True)
class Setup:
    """What all questions share."""

    data: Mapping[str, DataSet]
    models: Mapping[str, Model]


def read_setup(path: Path = SETUP) -> Setup:
    """Read the data sets and the models.

    Raises:
        ConfigError: an unknown key or name.
    """
    content = parse_mapping(path.read_text(encoding="utf-8"), str(path))
    _known(content, ("data", "models"), str(path))
    data = {name: _record(DataSet, name, each, path) for name, each in content["data"].items()}
    models = {name: _record(Model, name, each, path) for name, each in content["models"].items()}
    setup = Setup(data, models)
    for each in data.values():
        _one_of(each.model, models, f"{path}: data {each.name}: model")
    for model in models.values():
        if model.data:
            _one_of(model.data, data, f"{path}: models {model.name}: data")
    return setup


def read_questions(setup: Setup, folder: Path = QUESTIONS) -> dict[str, Question]:
    """Read every question of a folder, by name.

    Raises:
        ConfigError: there are none, or one has an unknown key, name or setting.
    """
    found = {path.stem: read_question(path, setup) for path in sorted(folder.glob("*.yaml"))}
    if not found:
        raise ConfigError(f"There are no questions in {folder}.", hint="They are *.yaml files.")
    return found


def read_question(path: Path, setup: Setup) -> Question:
    """Read one question.

    Raises:
        ConfigError: an unknown key, name or setting, named with the file.
    """
    content = parse_mapping(path.read_text(encoding="utf-8"), str(path))
    _known(
        content,
        ("title", "data", "base", "baseline", "variants", "sweeps", "test", "notes", *_FURTHER),
        str(path),
    )
    variants = dict(_variants(content, path))
    rows = []
    for name, asked in (content.get("data") or {}).items():
        _one_of(name, setup.data, f"{path}: data")
        asked = dict(asked or {})
        _known(asked, ("seeds", "variants", "base", "instead"), f"{path}: data {name}")
        instead = asked.get("instead") or {}
        for each in instead:
            _one_of(each, variants, f"{path}: data {name}: instead")
        chosen = asked.get("variants") or list(variants)
        for each in chosen:
            _one_of(each, variants, f"{path}: data {name}: variants")
            common = (content.get("base") or {}, asked.get("base") or {})
            layers = (*common, variants[each], instead.get(each) or {})
            seeds = tuple(asked.get("seeds") or setup.data[name].seeds)
            rows.append(_row(each, setup, name, seeds, layers, path))
    baseline = content.get("baseline") or next(iter(variants), "")
    if variants:
        _one_of(baseline, variants, f"{path}: baseline")
    test = tuple(content.get("test") or ())
    for each in test:
        _one_of(each, variants, f"{path}: test")
    profiles = tuple(content.get("profiles") or ())
    for each in profiles:
        _one_of(each, setup.data, f"{path}: profiles")
    return Question(
        path.stem,
        content["title"],
        tuple(rows),
        baseline,
        test,
        tuple(content.get("notes") or ()),
        content.get("students", ""),
        profiles,
    )


def _variants(content: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, each in (content.get("variants") or {}).items():
        yield name, each or {}
    for sweep in content.get("sweeps") or ():
        _known(sweep, ("name", "over", *_VARIANT), f"{path}: sweeps")
        common = {key: value for key, value in sweep.items() if key not in ("name", "over")}
        axes = sweep["over"]
        for values in itertools.product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            name = sweep["name"]
            for axis, value in point.items():
                name = name.replace("{" + axis + "}", say_value(value))
            own = {axis: value for axis, value in point.items() if axis in _VARIANT}
            further = {axis: value for axis, value in point.items() if axis not in _VARIANT}
            yield name, {**common, **own, "set": {**common.get("set", {}), **further}}


_FURTHER = ("students", "profiles")
_FURTHER = ("students", "profiles")
# What a variant, and what is said for all of them, may have.
_VARIANT = ("set", "cut", "model", "teacher", "recipe", "bridge", "train", "index")


def _row(
    name: str,
    setup: Setup,
    data: str,
    seeds: Sequence[int],
    layers: Sequence[Mapping[str, Any]],
    path: Path,
) -> Row:
    usual = setup.data[data]
    asked: dict[str, Any] = {"cut": usual.cut, "model": usual.model, "recipe": usual.recipe}
    settings: dict[str, Any] = {}
    for layer in layers:
        _known(layer, _VARIANT, f"{path}: {name}")
        asked |= layer
        settings |= layer.get("set", {})
    where = f"{path}: {name}"
    if not _CUT.fullmatch(str(asked["cut"])):
        raise ConfigError(
            f"{where}: {asked['cut']!r} is no cut.",
            hint="Write first 4, keep-last 4, even 4, influence 4, cka 4, layers 0-2,11 or whole.",
        )
    _one_of(asked["model"], setup.models, f"{where}: model")
    train = asked.get("train", PUMA)
    _one_of(train, (PUMA, SENTENCE_TRANSFORMERS, NOBODY), f"{where}: train")
    _one_of(asked.get("index", OWN), (OWN, "teacher"), f"{where}: index")
    run = Run(
        data=data,
        model=asked["model"],
        cut=str(asked["cut"]),
        bridge=bool(asked.get("bridge", False)),
        trainer="",
        index=asked.get("index", OWN),
    )
    if train == NOBODY:
        return Row(name, data, (run,))
    teacher = asked.get("teacher", asked["model"])
    if teacher != NOBODY:
        _one_of(teacher, setup.models, f"{where}: teacher")
    base = flattened(dict(read_recipe(asked["recipe"])))
    run = replace(
        run,
        trainer=train,
        teacher=teacher,
        recipe=asked["recipe"],
        settings={**settings, **({} if teacher != NOBODY else _untaught(base, settings))},
        base=base,
    )
    check_settings_of(run, where)
    return Row(name, data, tuple(replace(run, seed=seed) for seed in seeds))


def _untaught(base: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what takes a recipe's teacher out of its loss, as far as a variant is silent on it."""
    from puma_cli.config.training_settings import DISTILLING

    off: dict[str, Any] = {
        f"loss.{name}": 0.0 for name in DISTILLING if base.get(f"loss.{name}", 0)
    }
    if base.get("train.cache_teacher"):
        off["train.cache_teacher"] = False
    return {key: value for key, value in off.items() if key not in settings}


def read_recipe(name: str) -> Mapping[str, Any]:
    """Return the content of a recipe of this folder, or of one that ships with puma."""
    return read_config(recipe_path(name))


def recipe_path(name: str) -> str:
    """Return what `--config` takes for a recipe."""
    own = RECIPES / f"{name}.yaml"
    return str(own) if own.is_file() else name


def check_settings_of(run: Run, where: str) -> None:
    """Refuse settings that puma does not know or allow.

    Raises:
        ConfigError: with the place in front.
    """
    flags = {"student": "cut", "data": Path("data"), "output_dir": Path("student")}
    try:
        if any(key.startswith(STAGES) for key in run.base):
            load_stages(config=recipe_path(run.recipe), overrides=overrides(run), flags=flags)
        else:
            load_settings(
                DistillSettings,
                config=recipe_path(run.recipe),
                overrides=overrides(run),
                flags=flags,
            )
    except ConfigError as error:
        error.problem = f"{where}: {error.problem}"
        raise


def overrides(run: Run) -> list[str]:
    """Return the settings over the recipe's as one types them after `--set`."""
    return [f"{name}={say_value(value)}" for name, value in sorted(run.settings.items())]


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _record(cls: type, name: str, content: Mapping[str, Any] | None, path: Path) -> Any:
    content = dict(content or {})
    _known(content, [each.name for each in fields(cls) if each.name != "name"], f"{path}: {name}")
    if "seeds" in content:
        content["seeds"] = tuple(content["seeds"])
    return cls(name=name, **content)


def _known(content: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for key in content:
        if key not in names:
            raise ConfigError(
                f"{where}: unknown key {key!r}.",
                hint=did_you_mean(str(key), names) or f"There are: {', '.join(names)}.",
            )


def _one_of(name: Any, names: Any, where: str) -> None:
    if name not in names:
        known = list(names)
        raise ConfigError(
            f"{where}: there is no {name!r}.",
            hint=did_you_mean(str(name), known) or f"There are: {', '.join(map(str, known))}.",
        )

"""A folder of embeddings teaches what the model that made them teaches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from puma_cli.config.training_settings import DistillSettings, LossSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation.distill import distill
from puma_cli.distillation.forecast.forecast import forecast_training
from puma_cli.errors import ConfigError, DataError
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from tests.evaluation.small import Notes


def write(folder: Path, table: str, ids: Sequence[str], rows: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{table}.npy", rows)
    (folder / f"{table}.txt").write_text("".join(f"{each}\n" for each in ids))


@pytest.fixture(scope="module")
def stored(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The teacher's un-normalised embeddings of the training split, first prompts."""
    folder = tmp_path_factory.mktemp("stored") / "teacher"
    teacher, data = load(tiny_checkpoint, "cpu", "float32"), MbeirFolder(tiny_scenes)
    queries, pool = data.train_queries(), data.union_pool("train")

    def embedded(inputs: list[Input]) -> np.ndarray:
        out = np.empty((len(inputs), teacher.dimension), dtype=np.float32)
        for places, batch in teacher.batches(inputs, 64):
            out[places] = teacher.embed(batch).detach().numpy()
        return out

    asked = [query.to_input(data.instructions.pick(query)) for query in queries]
    write(folder, "queries", [query.qid for query in queries], embedded(asked))
    shown = [candidate.to_input() for candidate in pool]
    write(folder, "candidates", [candidate.did for candidate in pool], embedded(shown))
    return folder


def losses(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k in ("loss", "mse", "cosine", "similarity")}
            for row in rows if "loss" in row]  # fmt: skip


def test_losses_are_those_of_the_model_asked_once(
    settings: DistillSettings, stored: Path, tmp_path: Path
) -> None:
    loss = LossSettings(mse=0.1, cosine=0.5, similarity=0.2)
    first = replace(settings.batch, instruction="first")
    asked = replace(settings, loss=loss, batch=first)
    notes = Notes()
    distill(replace(asked, teacher=str(stored), output_dir=tmp_path / "stored"), notes)
    train = replace(settings.train, cache_teacher=True)
    distill(replace(asked, train=train, output_dir=tmp_path / "cached"))
    ours, theirs = losses(tmp_path / "stored"), losses(tmp_path / "cached")
    assert len(ours) == len(theirs) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert any("embeddings of" in note and "lie in" in note for note in notes.notes)
    history = json.loads((tmp_path / "stored" / "puma.json").read_text())
    assert {parent["role"] for parent in history["parents"]} == {"student", "teacher", "data"}


def test_a_projection_is_fitted_to_a_table_of_another_width(
    settings: DistillSettings, stored: Path, tmp_path: Path
) -> None:
    wider = tmp_path / "wider"
    mixed = np.random.default_rng(0).normal(size=(32, 48))
    for table in ("queries", "candidates"):
        ids = (stored / f"{table}.txt").read_text().split()
        write(wider, table, ids, (np.load(stored / f"{table}.npy") @ mixed).astype(np.float16))
    loss = LossSettings(cosine=1.0, bank=0.1, bank_size=16, projection="ridge")
    found = distill(
        replace(settings, teacher=str(wider), loss=loss, train=replace(settings.train, steps=30))
    )
    assert found.finished
    with pytest.raises(ConfigError, match="32 dimensions, the teacher's 48"):
        distill(
            replace(
                settings,
                teacher=str(wider),
                loss=replace(loss, projection="none"),
                output_dir=tmp_path / "refused",
            )
        )


def test_what_a_table_lacks_is_named(
    settings: DistillSettings, stored: Path, tmp_path: Path
) -> None:
    ids = (stored / "candidates.txt").read_text().split()
    rows = np.load(stored / "candidates.npy")
    asked_ids = (stored / "queries.txt").read_text().split()
    asked_rows = np.load(stored / "queries.npy")

    def refused(said: str, name: str, kept: Sequence[str], table: np.ndarray) -> None:
        folder = tmp_path / name
        write(folder, "queries", asked_ids, asked_rows)
        write(folder, "candidates", kept, table)
        with pytest.raises(DataError, match=said):
            distill(replace(settings, teacher=str(folder)))
        assert not settings.output_dir.exists()

    refused("rows", "shifted", ids[1:], rows)
    refused("lacks the id", "renamed", [f"x{each}" for each in ids], rows)
    refused("not finite", "broken", ids, np.full_like(rows, np.nan))
    refused("no table of numbers", "whole", ids, rows.astype(int))
    refused("have .* columns", "narrow", ids, rows[:, :8])


def test_settings_that_ask_for_more_than_embeddings_are_refused(
    settings: DistillSettings, stored: Path
) -> None:
    asked = replace(settings, teacher=str(stored))
    with pytest.raises(ConfigError, match="holds embeddings alone"):
        distill(replace(asked, loss=LossSettings(cosine=1.0, hints=1.0)))
    with pytest.raises(ConfigError, match="as it is"):
        distill(replace(asked, batch=replace(settings.batch, augment=True)))


def test_a_forecast_asks_no_teacher_that_is_not_there(
    settings: DistillSettings, stored: Path
) -> None:
    asked = replace(settings, teacher=str(stored), batch=replace(settings.batch, max_pixels=784))
    found = forecast_training(asked, steps=1)
    assert found.cache is None and found.memory.teacher == 0 and found.memory.teacher_rows > 0
    assert found.measured is not None and set(found.measured.seconds) == {
        "images", "steps", "validations",
    }  # fmt: skip
    assert not settings.output_dir.exists()


def test_a_missing_table_is_named(settings: DistillSettings, stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "queries.npy").write_bytes((stored / "queries.npy").read_bytes())
    with pytest.raises(DataError, match=r"candidates\.npy cannot be read"):
        distill(replace(settings, teacher=str(folder)))
    assert not settings.output_dir.exists()

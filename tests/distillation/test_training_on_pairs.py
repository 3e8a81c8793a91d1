"""`puma distill` on each kind of training data, from the command line to the written model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from puma_cli.checkpoint.fingerprint import is_unchanged
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.cli.app import run
from puma_cli.models.opening import load
from tests.data.pairs.writing import draw, mmeb, texts, write_table

Printed = pytest.CaptureFixture[str]
QUICK = ("--steps", "2", "--batch-size", "4", "--device", "cpu", "--set", "train.validate_every=1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def distilled(student: Path, data: str, *options: str) -> list[dict[str, Any]]:
    """Train for two steps and return the lines of the log."""
    args = ["distill", str(student), "--data", data, "-o", "student", *QUICK, *options]
    assert run(args) == 0
    lines = Path("student/log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def scores(log: list[dict[str, Any]]) -> list[float]:
    return [line["validation_hit@1"] for line in log if "validation_hit@1" in line]


def test_own_pairs_of_texts_alone(here: Path, pruned: Path, capsys: Printed) -> None:
    write_table(here / "pairs.jsonl", texts(40))
    log = distilled(pruned, "pairs.jsonl", "--set", "batch.negatives=1")
    assert len(scores(log)) == 2
    assert log[0]["hard_negatives"] == 4
    said = capsys.readouterr().err
    assert "40 pairs of 1 task, 4 queries held out" in said
    assert "puma eval student --data DATA" in said
    assert load(here / "student", "cpu").depth == 2
    provenance = read_provenance(here / "student")
    assert provenance is not None
    (data,) = [parent for parent in provenance.parents if parent.role == "data"]
    assert is_unchanged(data.name, data.fingerprint)
    assert run(["info", "student"]) == 0
    printed = capsys.readouterr()
    assert "changed since" not in printed.out and "not found" not in printed.out
    assert "--data DATA" in printed.out + printed.err


def test_own_pairs_with_images_under_names_of_ones_own(here: Path, pruned: Path) -> None:
    rows = [
        {"title": f"shade {n}", "photo": draw(here / f"photos/{n}.png", 12 * n).name}
        for n in range(20)
    ]
    write_table(here / "shop" / "goods.parquet", rows)
    named = ("pairs.query_text=title", "pairs.positive_image=photo", "pairs.images=photos")
    sets = [
        word for setting in (*named, "pairs.prompt=Find its photo.") for word in ("--set", setting)
    ]
    log = distilled(pruned, "shop", *sets)
    assert len(scores(log)) == 2


def test_nli_as_simcse_ships_it_starts_a_fresh_model(here: Path) -> None:
    lines = [f'"A man, number {n}.",A man.,No man {n}.' for n in range(30)]
    Path("nli_for_simcse.csv").write_text("\n".join(["sent0,sent1,hard_neg", *lines]))
    sizes = {"hidden_size": 16, "layers": 2, "heads": 2, "key_value_heads": 1, "vision_layers": 1,
             "intermediate_size": 24, "vocabulary": 320, "vision_size": 16,
             "vision_heads": 2}  # fmt: skip
    sets = [word for name, size in sizes.items() for word in ("--set", f"fresh.{name}={size}")]
    log = distilled(Path("fresh"), "nli_for_simcse.csv", *sets, "--set", "pairs.validation=none")
    # All positives read the same, so a batch has one candidate and nothing to tell apart.
    assert scores(log) == [] and log[0]["loss"] == pytest.approx(0.0, abs=1e-6)


def test_mmeb_with_a_teacher_batches_of_one_data_set_and_a_stop(
    here: Path, pruned: Path, tiny_checkpoint: Path
) -> None:
    mmeb(here / "MMEB-train", count=20)
    options = ("--teacher", str(tiny_checkpoint), "--set", "batch.grouping=task")
    log = distilled(pruned, "MMEB-train", *options)
    assert len(scores(log)) == 2 and any("mse" in row for row in log)
    args = ["distill", str(pruned), "--data", "MMEB-train", "-o", "parts", *QUICK, *options]
    assert run([*args, "--stop-after", "0.0000001"]) == 0
    assert (here / "parts" / "training").is_dir()
    assert run([*args, "--resume"]) == 0
    whole, parts = (
        (here / name / "model.safetensors").read_bytes() for name in ("student", "parts")
    )
    assert whole == parts


@pytest.mark.parametrize(
    ("data", "options", "code", "words"),
    [
        ("gone.jsonl", (), 1, ["no data at gone.jsonl", ".parquet"]),
        ("pairs.jsonl", ("--set", "pairs.query_txt=a"), 2, ["Did you mean pairs.query_text?"]),
        ("pairs.jsonl", ("--set", "pairs.query_text=a"), 2, ["pairs.positive_text=COLUMN"]),
        ("pairs.jsonl", ("--tasks", "shop"), 1, ["'shop'", "pairs"]),
        ("pairs.jsonl", ("--set", "pairs.incomplete=maybe"), 2, ["refuse, skip"]),
        ("pairs.jsonl", ("--batch-size", "64"), 1, ["36 training queries do not fill"]),
        ("pairs.jsonl.gz", (), 1, ["gunzip pairs.jsonl.gz"]),
        ("odd.csv", (), 1, ["odd.csv", "'left', 'right'", "--set pairs.query_text=COLUMN"]),
        ("broken.jsonl", (), 1, ["broken.jsonl, line 2"]),
    ],
)
def test_what_goes_wrong_is_said_and_leaves_nothing(
    data: str,
    options: tuple[str, ...],
    code: int,
    words: list[str],
    here: Path,
    pruned: Path,
    capsys: Printed,
) -> None:
    write_table(here / "pairs.jsonl", texts(40))
    write_table(here / "odd.csv", [{"left": "a", "right": "b"}])
    (here / "pairs.jsonl.gz").touch()
    (here / "broken.jsonl").write_text('{"query": "a", "pos": "b"}\n{"query": "a"\n')
    assert run(["distill", str(pruned), "--data", data, "-o", "student", *QUICK, *options]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    for word in words:
        assert word in printed.err
    assert "fault of puma's own" not in printed.err
    assert not (here / "student").exists()

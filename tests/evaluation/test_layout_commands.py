"""`puma eval` on MMEB and on pairs, and `puma data check`, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from puma_cli.cli.app import run
from puma_cli.evaluation.score_folder import read_scores
from tests.data.mmeb.stand_in import row, stand_in, write_table

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PUMA_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_mmeb_is_told_from_the_folder_and_scored(
    here: Path, tiny_checkpoint: Path, capsys: Printed
) -> None:
    stand_in(here / "MMEB-eval")
    asked = ["eval", str(tiny_checkpoint), "--device", "cpu"]
    assert run([*asked, "--data", "MMEB-eval", "-o", "a"]) == 0
    printed = capsys.readouterr().out
    assert "ImageNet-1K" in printed and "classification" in printed
    assert "1 of 10: INCOMPLETE" in printed and "3 of 36: INCOMPLETE" in printed
    assert "video: 18 data sets, not run" in printed
    assert run([*asked, "--mmeb", "MMEB-eval", "--tasks", "RefCOCO", "-o", "b", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["protocol"] == "mmeb"
    assert run(["eval", "--list-tasks", "--data", "MMEB-eval", "--quiet"]) == 0
    assert capsys.readouterr().out == "ImageNet-1K\nMSCOCO_t2i\nRefCOCO\n"
    assert answer["mmeb"]["grounding"]["sets"] == 1
    kept = json.loads((here / "b" / "mmeb.json").read_text())
    assert kept["mmeb"] == answer["mmeb"]
    first, second = read_scores("a"), read_scores("b")
    assert first.row("RefCOCO").ranks.tolist() == second.row("RefCOCO").ranks.tolist()
    assert run(["compare", "a", "a"]) == 0
    assert "RefCOCO" in capsys.readouterr().out


def test_pairs_are_scored_like_a_data_set(
    here: Path, tiny_checkpoint: Path, capsys: Printed
) -> None:
    rows = [{"title": f"red {n}", "body": f"blue {n}"} for n in range(6)]
    (here / "shop.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    asked = ["eval", str(tiny_checkpoint), "--pairs", "shop.jsonl", "--device", "cpu"]
    assert run(asked) == 1
    assert "no column that looks like the query" in capsys.readouterr().err
    named = ["--set", "pairs.query_text=title", "--set", "pairs.positive_text=body"]
    assert run([*asked, *named, "-o", "a"]) == 0
    assert "shop_task1" in capsys.readouterr().out
    scores = read_scores("a")
    assert (scores.protocol, scores.pools) == ("pairs", ("local",))
    assert scores.row("shop_task1").candidates == 6
    assert (here / "a/runs/local/shop_task1.txt").is_file()
    with (here / "shop.jsonl").open("a") as file:
        file.write('{"title": 3, "body": "x"}\n')
    assert run([*asked, *named, "-o", "b"]) == 1
    assert "line 7 is broken" in capsys.readouterr().err
    assert run([*asked, *named, "-o", "b", "--bad-rows", "skip"]) == 0
    # As wide as the folder's name leaves it, the title wraps.
    assert "1 broken rows left out: PARTIAL" in " ".join(capsys.readouterr().out.split())
    assert read_scores("b").skipped == {"rows": 1}
    assert run(["compare", "a", "b"]) == 1
    assert "partial: 1 broken rows left out" in capsys.readouterr().err
    assert run([*asked, "--mmeb", "x"]) == 2
    assert run([*asked, *named, "--list-tasks", "--bad-rows", "skip", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["tasks"]
    assert listed == [{"name": "shop_task1", "queries": 6, "candidates": 6}]


def test_broken_images_are_named_with_their_line_or_left_out(
    here: Path, tiny_checkpoint: Path, tiny_scenes: Path, capsys: Printed
) -> None:
    shutil.copytree(tiny_scenes, here / "scenes")
    pool = here / "scenes/cand_pool/local/mbeir_scenes_task0_cand_pool.jsonl"
    image = json.loads(pool.read_text().splitlines()[2])["img_path"]
    (here / "scenes" / image).write_bytes(b"x")
    asked = ["eval", str(tiny_checkpoint), "--data", "scenes", "--tasks", "*_task0"]
    asked += ["--device", "cpu", "--pools", "local"]
    assert run(asked) == 1
    said = capsys.readouterr().err
    assert "cannot be decoded" in said and "cand_pool" in said and ", line " in said
    assert run([*asked, "--bad-images", "skip", "-o", "a"]) == 0
    assert "1 broken images" in capsys.readouterr().out
    assert read_scores("a").skipped["images"] == 1


def test_a_check_counts_and_names_faults_and_ends_with_one(
    here: Path, tiny_scenes: Path, capsys: Printed
) -> None:
    assert run(["data", "check", str(tiny_scenes), "--decode"]) == 0
    printed = capsys.readouterr().out
    assert "No fault." in printed and "scenes_task0" in printed and "read whole" in printed
    write_table(here / "data", "CIRR", [row("x", "", ["a", "b"]), row("", "", ["a", "b"])])
    assert run(["data", "check", "data"]) == 1
    printed = capsys.readouterr().out
    assert "CIRR/test-00000-of-00001.parquet, row 2: is broken." in printed
    assert run(["data", "check", "data", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["faults"], answer["layout"]) == (1, "mmeb")
    assert run(["data", "check", "data", "--quiet"]) == 1
    assert capsys.readouterr().out == "1\n"
    assert run(["data", "check", "nowhere"]) == 1
    assert run(["data", "check", "data", "--decode", "--no-images"]) == 2

"""Reports of evaluations and comparisons: pages that stand alone, with the examples they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import puma_cli
from puma_cli.evaluation.comparison import compare
from puma_cli.evaluation.results import Scores
from puma_cli.evaluation.score_folder import read_scores
from puma_cli.report.comparison_page import write_comparison_page
from puma_cli.report.found_examples import drawn, gained_and_lost, read_run, right_and_wrong
from puma_cli.report.gallery import Example, Found, Ranking
from puma_cli.report.pictures import data_uri
from puma_cli.report.score_bars import Bar, plot_bars
from puma_cli.report.score_page import render_score_page
from tests.report.html_check import read
from tests.report.legible import check_legible


@pytest.fixture(scope="module")
def folders(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Scores of the tiny model and of its first two layers, asked on the whole model's index."""
    root = tmp_path_factory.mktemp("scores")
    cut = root / "cut"
    puma_cli.prune(puma_cli.PruneSettings(model=str(tiny_checkpoint), keep=2, output_dir=cut))
    made = []
    for name, query_model in (("full", None), ("mixed", str(cut))):
        settings = puma_cli.EvaluateSettings(
            model=str(tiny_checkpoint),
            query_model=query_model,
            data=tiny_scenes,
            output_dir=root / name,
            pools=("local",),
            tasks="*task0",
            cache=False,
            device="cpu",
        )
        puma_cli.evaluate(settings)
        made.append(root / name)
    return made


def test_an_evaluation_writes_its_report(folders: list[Path]) -> None:
    for folder, word in zip(folders, ("Scores of", "Asymmetric"), strict=True):
        page = (folder / "report.html").read_text(encoding="utf-8")
        reading = read(page)
        scores = read_scores(folder)
        assert word in reading.text
        for row in scores.rows:
            assert f"{100 * row.score('hit@k'):.1f}" in reading.text
            wrong = int((row.ranks != 1).sum())
            assert reading.text.count(": wrong") == min(2, wrong) * 1
        assert reading.count("svg") == 1
        assert reading.count("img") >= 5


def test_a_comparison_shows_what_was_lost_and_gained(folders: list[Path], tmp_path: Path) -> None:
    comparison = compare(folders, resamples=100)
    path = tmp_path / "page.html"
    write_comparison_page(path, comparison)
    reading = read(path.read_text(encoding="utf-8"))
    before, after = (read_scores(folder).rows[0].ranks == 1 for folder in folders)
    for word, count in (("lost", (before & ~after).sum()), ("gained", (after & ~before).sum())):
        assert (f": {word} by mixed" in reading.text) == bool(count)
    assert "Asymmetric" in reading.text
    write_comparison_page(tmp_path / "again.html", comparison)
    assert path.read_bytes() == (tmp_path / "again.html").read_bytes()


def test_a_comparison_without_its_data_says_so(folders: list[Path], tmp_path: Path) -> None:
    comparison = compare(folders, resamples=100)
    moved = []
    for folder in folders:
        copy = tmp_path / folder.name
        copy.mkdir()
        for name in ("per_query.jsonl", "scores.json"):
            text = (folder / name).read_text(encoding="utf-8")
            data = read_scores(folder).data
            (copy / name).write_text(text.replace(data, "/nowhere"), encoding="utf-8")
        moved.append(copy)
    write_comparison_page(tmp_path / "page.html", replace(comparison, folders=tuple(moved)))
    assert "There are no examples" in read((tmp_path / "page.html").read_text()).text


def test_queries_are_drawn_by_the_seed(folders: list[Path]) -> None:
    assert drawn(range(100), 5, 1) == drawn(range(100), 5, 1) != drawn(range(100), 5, 2)
    assert drawn([3, 4], 5, 0) == [3, 4]
    full, mixed = (read_scores(folder).rows[0] for folder in folders)
    for word, place in right_and_wrong(full, 50, 0):
        assert (full.ranks[place] == 1) == (word == "right")
    for word, place in gained_and_lost(full, mixed, 50, 0):
        assert (full.ranks[place] == 1) == (word == "lost")
        assert (mixed.ranks[place] == 1) == (word == "gained")


def test_runs_are_read_back(folders: list[Path]) -> None:
    row = read_scores(folders[0]).rows[0]
    path = folders[0] / "runs" / "local" / f"{row.task}.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    # qid Q0 did rank score run_id task_id
    assert all(len(line) == 7 and line[1] == "Q0" and line[6] == "0" for line in lines)
    found = read_run(path, {row.qids[0], row.qids[2]})
    assert set(found) == {row.qids[0], row.qids[2]}
    assert found[row.qids[2]] == [line[2] for line in lines if line[0] == row.qids[2]][:5]


def example(picture: Path) -> Example:
    found = tuple(Found("a text", picture, n == 0) for n in range(5))
    return Example("task", "find it", "what?", picture, (Ranking("model", found, 1),))


@pytest.fixture
def scores(folders: list[Path]) -> Scores:
    return read_scores(folders[0])


def test_broken_pictures_are_left_out_and_counted(scores: Scores, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (30, 20), "red").save(good)
    bad.write_bytes(b"no picture")
    reading = read(render_score_page(scores, [example(bad), example(good)]))
    assert "1 more are left out" in reading.text
    assert reading.count("img") == 6


def test_a_page_has_a_largest_size(scores: Scores, tmp_path: Path) -> None:
    """Noise does not compress: each picture stands for as many bytes as one can."""
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(60):
        path = tmp_path / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(path)
        pictures.append(path)
    page = render_score_page(scores, [example(picture) for picture in pictures])
    assert len(page) < 4_600_000
    assert "more are left out" in read(page).text


def test_photographs_are_small(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    smooth = np.kron(generator.integers(0, 256, (9, 9, 3)), np.ones((60, 60, 1)))
    noisy = np.clip(smooth + generator.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(noisy).save(path)
    uri, small = data_uri(path)
    assert uri.startswith("data:image/jpeg") and not small and len(uri) < 40_000


@pytest.mark.parametrize("models", [1, 2, 5])
def test_bars_are_legible(models: int) -> None:
    tasks = [f"visualnews_with_a_long_name_task{n}" for n in range(16)] + ["mean"]
    bars = [
        [Bar(0.05 * (n + m), 0.04 * (n + m), 0.05 * (n + m) + 0.03) for m in range(models)]
        for n in range(17)
    ]
    names = [f"a-student-of-some-length-{m}" for m in range(models)]
    check_legible(plot_bars(tasks, names, bars, "hit@K"), f"bars-{models}")

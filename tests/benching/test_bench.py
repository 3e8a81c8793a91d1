"""`puma bench` on tiny models, from settings to figure."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from puma_cli.benching.bench import bench
from puma_cli.benching.memory import peak_in_process, weight_bytes
from puma_cli.cli.app import run
from puma_cli.config.settings import BenchSettings
from puma_cli.config.training_settings import FreshSettings
from puma_cli.errors import ConfigError, DeviceError, OutputError, PumaError
from puma_cli.evaluation.score_folder import read_scores
from puma_cli.models.fresh import build_fresh
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.profiling.cost.flops import count_flops, count_sizes, unread_flops
from tests.conftest import TINY_LAYERS

Printed = pytest.CaptureFixture[str]
QUICK = ["--inputs", "6", "--alone", "2", "--rounds", "2", "--warmup", "0", "--image-side", "56"]


@pytest.fixture(scope="module")
def cut(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut") / "cut"
    assert run(["prune", str(tiny_checkpoint), "--keep", "1", "-o", str(folder), "-q"]) == 0
    return folder


def test_the_command_measures_and_draws(
    tiny_checkpoint: Path, cut: Path, tmp_path: Path, capsys: Printed
) -> None:
    plot = tmp_path / "b.svg"
    asked = ["bench", str(tiny_checkpoint), str(cut), *QUICK, "--no-memory", "--plot", str(plot)]
    assert run([*asked, "--price-per-hour", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    full, short = found["models"]
    assert (full["layers"], short["layers"]) == (TINY_LAYERS, 1)
    assert (full["name"], short["name"]) == ("tiny", "cut")
    assert short["parameters"] < full["parameters"]
    assert short["disk"] < full["disk"]
    assert full["memory"] is None
    assert full["index"] == 1_000_000 * full["dimension"] * 2
    hours = short["candidate"]["batched"]["seconds"]["median"] * 1e6 / 3600
    assert short["cost_per_million"] == pytest.approx(2 * hours)
    assert full["query"]["alone"]["faster"]["median"] == 1
    ratio = full["query"]["flops"] / short["query"]["flops"]
    assert short["query"]["batched"]["ideal"] == pytest.approx(ratio)
    assert 1 < ratio < TINY_LAYERS
    assert found["next"].startswith(f"puma eval {cut}")
    assert plot.read_text(encoding="utf-8").startswith("<?xml")
    assert [path.name for path in tmp_path.iterdir()] == ["b.svg"]


def test_the_table_is_of_a_data_set_and_of_scores(
    tiny_checkpoint: Path, cut: Path, tiny_scenes: Path, tmp_path: Path, capsys: Printed
) -> None:
    models, scores = [str(tiny_checkpoint), str(cut)], []
    for number, model in enumerate(models):
        scores += ["--scores", str(tmp_path / f"scores{number}")]
        folder = ["-o", scores[-1], "--pools", "local", "--limit", "2", "-q"]
        assert run(["eval", model, "--data", str(tiny_scenes), *folder]) == 0
    capsys.readouterr()
    more = ["--no-memory", "--metric", "hit@10", "--plot", str(tmp_path / "b.png")]
    assert run(["bench", *models, "--data", str(tiny_scenes), *QUICK, *scores, *more]) == 0
    printed = capsys.readouterr()
    rows = {line.strip().split("  ")[0]: line for line in printed.out.splitlines() if line.strip()}
    assert rows["decoder layers"].split()[-2:] == [str(TINY_LAYERS), "1"]
    scored = [read_scores(tmp_path / f"scores{n}").mean("hit@10", "local") for n in range(2)]
    assert rows["hit@10"].split()[1:] == [f"{100 * score:.1f}%" for score in scored]
    assert f"6 queries and 6 candidates of {tiny_scenes}, test" in printed.out
    assert "Partial" in printed.out
    assert "peak memory" not in rows


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"models": ()}, ConfigError, "no model"),
        ({"plot": Path("b.bmp")}, ConfigError, "End it in .png, .svg or .pdf"),
        ({"plot": Path("nowhere/b.png")}, OutputError, "mkdir -p nowhere"),
        ({"scores": (Path("s"),)}, ConfigError, "1 score folders for 2 models"),
        ({"models": ("absent", "puma-mini")}, PumaError, "absent"),
        ({"rounds": 0}, ConfigError, "rounds = 0"),
        ({"data": Path("absent")}, PumaError, "absent"),
    ],
)
def test_what_cannot_be_is_refused(
    changes: dict[str, object], kind: type[PumaError], said: str
) -> None:
    given = {"models": ("puma-mini", "puma-mini"), "inputs": 2, "rounds": 1, **changes}
    with pytest.raises(kind, match=said):
        bench(BenchSettings(**given))  # type: ignore[arg-type]


def test_what_nobody_reads_is_not_counted(tiny_checkpoint: Path) -> None:
    embedder = load(tiny_checkpoint, "cpu", attention="eager")
    inputs = [Input(text="red circle on sand")]
    batch = embedder.collate(inputs)
    tokens, patches = count_sizes(batch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        embedder.embed(batch)
    counted = count_flops(embedder.model, tokens, patches).at(embedder.depth)
    assert counted - unread_flops(embedder, tokens) == counter.get_total_flops()
    assert unread_flops(embedder, tokens) > 0


def test_a_process_of_its_own_says_how_it_grew(tmp_path: Path) -> None:
    # Large enough that what libraries hold and free is little beside it.
    settings = FreshSettings(hidden_size=512, layers=6, heads=8, intermediate_size=1536)
    embedder = build_fresh(settings, ["a red circle"] * 20)
    embedder.save(tmp_path)
    weights = weight_bytes(embedder)

    def grown(inputs: Sequence[Input]) -> int | None:
        return peak_in_process(
            tmp_path, inputs, dtype="auto", attention="sdpa", batch_size=64, batch_tokens=None
        )

    # Weights that nothing touches, such as those of rare words, are never read from the disk.
    found = grown([Input(text="a red circle")])
    if found is None:
        pytest.skip("This system does not say.")
    assert 0.5 * weights < found < 4 * weights
    with pytest.raises(DeviceError, match="cannot be measured") as failed:
        grown([Input(image=Path("absent.png"))])
    assert "--no-memory" in str(failed.value)

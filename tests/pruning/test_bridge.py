"""The bridge against a direct fit, where it leads, and how it is stored and used."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cosine_similarity

from puma_cli.checkpoint.fingerprint import is_unchanged
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.settings import EvaluateSettings, PruneSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.records import Candidate
from puma_cli.errors import CheckpointError, ConfigError, DataError, OutputError, PumaError
from puma_cli.evaluation.evaluate import evaluate
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.models.embedder import Embedder
from puma_cli.models.head import Head
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.opening import load
from puma_cli.profiling.bridges.bridge import Bridge, read_cuts
from puma_cli.profiling.bridges.training_rows import Sample, bridge_rows, shares
from puma_cli.pruning import prune as prune_module
from puma_cli.pruning.bridge import fit_bridge, write_bridge
from puma_cli.pruning.prune import prune
from tests.headed import save_cut
from tests.pruning.conftest import edit_json

ROWS = 300


@pytest.fixture(scope="module")
def parent(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture(scope="module")
def bridge(parent: Embedder, tiny_scenes: Path) -> Bridge:
    return fit_bridge(parent, [0, 1], tiny_scenes, rows=ROWS, batch_size=64)


@pytest.fixture
def cut(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return save_cut(tiny_checkpoint, tmp_path / "cut", [0, 1])


def test_shares_are_even_and_what_is_left_goes_on() -> None:
    assert shares([100, 100, 100], 30) == [10, 10, 10]
    assert shares([100, 2, 100], 30) == [14, 2, 14]
    assert shares([5, 2], 30) == [5, 2]
    assert shares([], 30) == []
    for limit in range(40):
        found = shares([3, 11, 0, 7], limit)
        assert sum(found) == min(limit, 21)
        assert all(given <= size for given, size in zip(found, [3, 11, 0, 7], strict=True))


def test_every_task_and_modality_has_its_share_of_distinct_rows(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    fitted, judged = bridge_rows(data, 160, 0.25, seed=0)
    rows = [*fitted, *judged]
    assert len(set(rows)) == len(rows) and 100 < len(rows) <= 160
    assert len(judged) == pytest.approx(0.25 * len(rows), abs=6)
    queries = [row for row in rows if row.instruction is not None]
    assert len(queries) == pytest.approx(80, abs=8)
    for part in (fitted, judged):
        for side in (True, False):
            chosen = [row for row in part if (row.instruction is not None) is side]
            assert {row.modality for row in chosen} == {"text", "image", "image,text"}
    assert (fitted, judged) == bridge_rows(MbeirFolder(tiny_scenes), 160, 0.25, seed=0)
    assert set(fitted) != set(bridge_rows(data, 160, 0.25, seed=1)[0])


def test_the_map_is_the_ridge_solution_over_the_rows(
    parent: Embedder, bridge: Bridge, tiny_scenes: Path
) -> None:
    """Refitted here from the stock vectors, by augmented least squares in float64."""
    fitted, judged = bridge_rows(MbeirFolder(tiny_scenes), ROWS, 0.1, seed=0)
    full = parent.encode([*judged, *fitted]).double().numpy()
    with parent.layers([0, 1]), torch.no_grad():
        states = [parent.embed(parent.collate([row]))[0] for row in [*judged, *fitted]]
    x = torch.stack(states).double().numpy()

    def solve(rows: slice) -> np.ndarray:
        inputs, targets = x[rows], full[rows]
        spread = ((inputs - inputs.mean(0)) ** 2).sum() / len(inputs) / 32
        pull = np.sqrt(bridge.fit.strength * spread * len(inputs)) * np.eye(32)
        design = np.block([[inputs, np.ones((len(inputs), 1))], [pull, np.zeros((32, 1))]])
        targets = np.vstack([targets, np.zeros((32, 32))])
        return np.asarray(np.linalg.lstsq(design, targets, rcond=None)[0])

    assert bridge.fit.rows == len(full) and bridge.fit.held_out == len(judged)
    expected = bridge.fit.scale * solve(slice(None))
    np.testing.assert_allclose(bridge.weight.numpy(), expected[:-1], rtol=2e-2, atol=2e-3)
    mapped = x @ bridge.weight.double().numpy() + bridge.bias.double().numpy()
    np.testing.assert_allclose(mapped, x @ expected[:-1] + expected[-1], rtol=1e-3, atol=2e-3)

    held = solve(slice(len(judged), None))
    found = x[: len(judged)] @ held[:-1] + held[-1]
    truth = full[: len(judged)]
    assert bridge.fit.error == pytest.approx(((found - truth) ** 2).sum(1).mean(), rel=1e-3)
    cosines = cosine_similarity(torch.from_numpy(found), torch.from_numpy(truth))
    assert bridge.fit.cosine == pytest.approx(float(cosines.mean()), abs=1e-4)
    before = cosine_similarity(torch.from_numpy(x[: len(judged)]), torch.from_numpy(truth))
    assert bridge.fit.cosine_before == pytest.approx(float(before.mean()), abs=1e-4)
    assert bridge.fit.cosine_before is not None and bridge.fit.cosine > bridge.fit.cosine_before


def test_lengths_are_the_parents(parent: Embedder, bridge: Bridge, tiny_scenes: Path) -> None:
    rows = [row for part in bridge_rows(MbeirFolder(tiny_scenes), ROWS, 0.1, 0) for row in part]
    head, lengths = Head(bridge.weight, bridge.bias), []
    with torch.no_grad():
        for _, batch in parent.batches(rows, 64):
            (states,), full = read_cuts(parent, [(0, 1)], batch)
            lengths.append(torch.stack([head(states).square().sum(1), full.square().sum(1)], 1))
    ours, theirs = torch.cat(lengths).double().mean(0).sqrt()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-4)


def test_reading_first_layers_in_passing_is_running_them(
    parent: Embedder, tiny_scenes: Path
) -> None:
    rows = bridge_rows(MbeirFolder(tiny_scenes), 40, 0.1, 0)[0]
    batch = parent.collate(rows)
    with torch.no_grad():
        cuts = [(0,), (0, 1), (0, 1, 2, 3), (0, 3), (1, 2)]
        together, full = read_cuts(parent, cuts, batch)
        torch.testing.assert_close(full, parent.embed(batch))
        for kept, states in zip(cuts, together, strict=True):
            with parent.layers(kept):
                torch.testing.assert_close(states, parent.embed(batch))
            assert torch.equal(read_cuts(parent, [kept], batch)[0][0], states)


def test_the_same_seed_gives_the_same_bridge_and_batches_hardly_matter(
    parent: Embedder, bridge: Bridge, tiny_scenes: Path
) -> None:
    again = fit_bridge(parent, [0, 1], tiny_scenes, rows=ROWS, batch_size=64)
    assert torch.equal(again.weight, bridge.weight) and again.fit == bridge.fit
    other = fit_bridge(parent, [0, 1], tiny_scenes, rows=ROWS, batch_size=17)
    assert other.fit.cosine == pytest.approx(bridge.fit.cosine, abs=1e-4)


def test_a_parent_with_a_head_is_bridged_to_what_its_head_gives(
    tiny_checkpoint: Path, parent: Embedder, tiny_scenes: Path, bridge: Bridge
) -> None:
    turned = load(tiny_checkpoint, "cpu")
    rotation, _ = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(3)))
    turned.head = Head(rotation, torch.zeros(32))
    found = fit_bridge(turned, [0, 1], tiny_scenes, rows=ROWS, batch_size=64)
    expected = Head(bridge.weight @ rotation, bridge.bias @ rotation)
    states = parent.encode(bridge_rows(MbeirFolder(tiny_scenes), 40, 0.1, 0)[0]) * 32**0.5
    with torch.no_grad():
        torch.testing.assert_close(
            Head(found.weight, found.bias)(states), expected(states), rtol=1e-2, atol=1e-2
        )
    assert found.fit.cosine == pytest.approx(bridge.fit.cosine, abs=1e-4)


def test_a_written_bridge_is_applied_and_written_again(
    cut: Path, bridge: Bridge, parent: Embedder, tiny_scenes: Path
) -> None:
    rows = bridge_rows(MbeirFolder(tiny_scenes), 60, 0.1, 0)[0]
    plain = load(cut, "cpu").encode(rows)
    write_bridge(bridge, cut)
    bridged = load(cut, "cpu")
    assert bridged.settings.head == BRIDGE
    full = parent.encode(rows)

    def cosine(vectors: Tensor) -> float:
        return float((vectors * full).sum(1).mean())

    assert cosine(bridged.encode(rows)) > cosine(plain) + 0.05
    write_bridge(replace(bridge, weight=2 * bridge.weight), cut)
    assert torch.equal(load_file(cut / BRIDGE)["weight"], 2 * bridge.weight)


def test_eval_scores_the_bridged_vectors(
    cut: Path, bridge: Bridge, parent: Embedder, tiny_scenes: Path, tmp_path: Path
) -> None:
    write_bridge(bridge, cut)
    with parent.layers([0, 1]):
        parent.head = Head(bridge.weight, bridge.bias)
        try:
            expected = evaluate_embedder(parent, tiny_scenes, tasks="*_task1,*_task6")
        finally:
            parent.head = None
        plain = evaluate_embedder(parent, tiny_scenes, tasks="*_task1,*_task6")
    settings = EvaluateSettings(
        model=str(cut), data=tiny_scenes, output_dir=tmp_path / "scores",
        tasks="*_task1,*_task6", pools=("local",), device="cpu",
    )  # fmt: skip
    rows = evaluate(settings).rows
    assert [row.ranks.tolist() for row in rows] == [row.ranks.tolist() for row in expected.rows]
    assert [row.ranks.tolist() for row in rows] != [row.ranks.tolist() for row in plain.rows]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"kept": [0, 9]}, ConfigError, "no decoder layer 9"),
        ({"kept": []}, ConfigError, "No layers"),
        ({"rows": 3}, ConfigError, "3 rows"),
        ({"held_out": 1.0}, ConfigError, "with 1 of them"),
        ({"data": Path("absent")}, DataError, "does not exist"),
        ({"held_out": 0.001, "rows": 60}, DataError, "training inputs for a bridge"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    parent: Embedder,
    tiny_scenes: Path,
    change: dict[str, Any],
    error: type[PumaError],
    says: str,
) -> None:
    asked: dict[str, Any] = {"kept": [0, 1], "data": tiny_scenes, "rows": 60} | change
    with pytest.raises(error, match=says):
        fit_bridge(parent, **asked)


def test_data_without_a_training_split_is_refused(
    parent: Embedder, tiny_scenes: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_scenes, tmp_path / "data")
    shutil.rmtree(data / "query" / "train")
    with pytest.raises(DataError, match="no training queries"):
        fit_bridge(parent, [0, 1], data)


def test_large_pools_are_drawn_from_evenly_and_never_held(tmp_path: Path) -> None:
    for room in ("query/train", "cand_pool/global", "instructions"):
        (tmp_path / room).mkdir(parents=True)
    (tmp_path / "query/train/mbeir_a_train.jsonl").write_text(
        '{"qid": "1:0", "query_txt": "q", "query_img_path": null, "query_modality": "text", '
        '"task_id": 0, "pos_cand_list": [], "neg_cand_list": []}\n'
    )
    lines = (
        f'{{"did": "1:{number}", "txt": "c{number}", "img_path": null, "modality": "text"}}\n'
        for number in range(4000)
    )
    pool = tmp_path / "cand_pool/global/mbeir_union_train_cand_pool.jsonl"
    pool.write_text("".join(lines))
    sample = Sample(100, (0, 0))
    for candidate in MbeirFolder(tmp_path).stream_union_pool("train"):
        sample.add(candidate)
        assert len(sample.kept) <= 100
    drawn = sorted(int(entry.did[2:]) for entry in sample.kept if isinstance(entry, Candidate))
    assert len(set(drawn)) == 100
    assert np.mean(drawn) == pytest.approx(2000, abs=350)  # three standard errors


@pytest.mark.parametrize(
    ("model_type", "rooms", "error", "says"),
    [
        ("llava", ["query/train"], CheckpointError, "`llava`, which puma does not embed with"),
        ("qwen2_vl", [], DataError, "not in the M-BEIR layout"),
        ("qwen2_vl", ["query/val"], DataError, "no training queries"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_can_have_no_bridge_is_refused_before_a_weight_is_written(
    model_type: str,
    rooms: list[str],
    error: type[PumaError],
    says: str,
    dry_run: bool,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = Path(shutil.copytree(tiny_checkpoint, tmp_path / "parent"))
    edit_json(parent / "config.json", lambda config: config.update(model_type=model_type))
    data = tmp_path / "data"
    for room in [".", *rooms, *(["cand_pool"] if rooms else [])]:
        (data / room).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(prune_module, "new_folder", None)
    settings = PruneSettings(str(parent), tmp_path / "cut", keep=2, bridge=True, data=data)
    with pytest.raises(error, match=says):
        prune(replace(settings, dry_run=dry_run))


def test_the_data_of_a_bridge_are_a_parent_and_not_overwritten(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path
) -> None:
    settings = PruneSettings(
        str(tiny_checkpoint),
        tmp_path / "cut",
        keep=2,
        verify="none",
        bridge=True,
        bridge_rows=ROWS,
        data=tiny_scenes,
    )
    prune(settings)
    history = read_provenance(tmp_path / "cut")
    assert history is not None
    data = history.parents[1]
    assert (data.role, data.name) == ("data", str(tiny_scenes))
    assert is_unchanged(tiny_scenes, data.fingerprint)
    inside = Path(shutil.copytree(tiny_scenes, tmp_path / "cut" / "data"))
    with pytest.raises(OutputError, match="which the result is made from"):
        prune(replace(settings, data=inside, overwrite=True))
    assert inside.is_dir()


def test_a_folder_that_is_no_checkpoint_gets_no_bridge(bridge: Bridge, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        write_bridge(bridge, tmp_path)
    assert not list(tmp_path.iterdir())

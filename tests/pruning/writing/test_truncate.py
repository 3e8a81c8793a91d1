"""The weights that stay are written bit by bit, whatever the files, the links and the disk do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from safetensors.torch import save_file

from puma_cli.checkpoint.safetensors_header import read_header
from puma_cli.checkpoint.shard_index import weight_files
from puma_cli.errors import NumericError
from puma_cli.progress import Reporter
from puma_cli.pruning.planning.plan import Move, PrunePlan, make_plan
from puma_cli.pruning.writing.truncate import write_weights
from tests.pruning.conftest import weights_of

T = TypeVar("T")


class Noting(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.totals: list[int | None] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        self.totals.append(total)
        yield from items


def refuse_links(code: int) -> object:
    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return link


@pytest.fixture
def whole_plan(sharded: Path) -> PrunePlan:
    """A plan that keeps all layers, so that every file stays as it is."""
    return make_plan(sharded, range(4))


def test_kept_tensors_are_the_parents_bit_by_bit(parent: Path, out: Path) -> None:
    plan = make_plan(parent, (0, 2))
    write_weights(plan, out)
    before, after = weights_of(parent), weights_of(out)
    assert set(after) == {move.name for move in plan.moves}
    for move in plan.moves:
        old = before[move.entry.name]
        assert after[move.name].dtype == old.dtype
        assert torch.equal(after[move.name], old)
    assert json.loads((out / "config.json").read_text()) == plan.config


def test_without_a_size_files_follow_the_parents(sharded: Path, out: Path) -> None:
    plan = make_plan(sharded, (0, 1))
    files = write_weights(plan, out)
    assert len(files) == len(plan.files) > 1
    for number, (name, file) in enumerate(zip(plan.files, files, strict=True), 1):
        assert file.name == f"model-{number:05d}-of-{len(files):05d}.safetensors"
        assert {move.entry.file.name for move in file.moves} == {name}


def test_shards_hold_the_same_under_an_index(sharded: Path, tmp_path: Path) -> None:
    plan = make_plan(sharded, (0, 1))
    for name, limit in (("one", 10**9), ("many", 40_000)):
        (tmp_path / name).mkdir()
        write_weights(plan, tmp_path / name, shard_bytes=limit)
    shards = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(shards) > 1
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == plan.bytes_after
    assert index["metadata"]["total_parameters"] == plan.parameters[1]
    one, many = weights_of(tmp_path / "one"), weights_of(tmp_path / "many")
    assert set(one) == set(many) == set(index["weight_map"])
    assert all(torch.equal(one[key], many[key]) for key in one)
    assert not (tmp_path / "one" / "model.safetensors.index.json").exists()


def test_a_cast_is_torchs_and_leaves_other_dtypes(sharded: Path, out: Path) -> None:
    plan = make_plan(sharded, (0, 3))
    moves = tuple(replace(m, dtype="BF16") if n % 2 else m for n, m in enumerate(plan.moves))
    write_weights(replace(plan, moves=moves), out)
    before, after = weights_of(sharded), weights_of(out)
    dtypes = {"F32": torch.float32, "BF16": torch.bfloat16}
    for move in moves:
        assert torch.equal(after[move.name], before[move.entry.name].to(dtypes[move.dtype]))


def test_a_cast_that_overflows_is_refused(sharded: Path, out: Path) -> None:
    plan = make_plan(sharded, (0, 3))
    file = plan.moves[-1].entry.file
    tensors = {n: torch.full_like(t, 1e6) for n, t in weights_of(sharded).items()}
    entries = {move.entry.name for move in make_plan(sharded, range(4)).moves}
    names = {m.entry.name for m in make_plan(sharded, range(4)).moves if m.entry.file == file}
    save_file({n: tensors[n] for n in names & entries}, file)
    plan = make_plan(sharded, (0, 3))
    moves = tuple(replace(move, dtype="F16") for move in plan.moves)
    with pytest.raises(NumericError, match="holds 1e\\+06, which F16 cannot"):
        write_weights(replace(plan, moves=moves), out)


def test_files_that_stay_are_linked_on_request(whole_plan: PrunePlan, out: Path) -> None:
    write_weights(whole_plan, out, link=True)
    parents = weight_files(whole_plan.folder)
    assert len(parents) > 1
    for parent, child in zip(parents, weight_files(out), strict=True):
        assert parent.samefile(child)


def test_a_partly_kept_file_is_copied_beside_linked_ones(sharded: Path, out: Path) -> None:
    plan = make_plan(sharded, (0, 1))
    files = write_weights(plan, out, link=True)
    linked = [(out / file.name).stat().st_nlink > 1 for file in files]
    assert linked == [file.whole is not None for file in files]
    assert True in linked
    assert False in linked


def test_a_hub_snapshot_is_linked_to_its_files(
    parents: dict[str, Path], out: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "models--some--model"
    snapshot = Path(shutil.copytree(parents["sharded"], cache / "snapshots" / ("0" * 40)))
    (cache / "blobs").mkdir()
    for number, file in enumerate(weight_files(snapshot)):
        file.rename(cache / "blobs" / str(number))
        file.symlink_to(Path("../../blobs") / str(number))
    write_weights(make_plan(snapshot, range(4)), out, link=True)
    for file in weight_files(out):
        assert not file.is_symlink()
        assert file.stat().st_nlink == 2


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_where_links_cannot_be_made_files_are_copied(
    whole_plan: PrunePlan, out: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "link", refuse_links(code))
    reporter = Noting()
    write_weights(whole_plan, out, reporter, link=True)
    assert len(reporter.notes) == 1
    assert "copying them" in reporter.notes[0]
    for parent, child in zip(weight_files(whole_plan.folder), weight_files(out), strict=True):
        assert child.read_bytes() == parent.read_bytes()
        assert child.stat().st_nlink == 1


def test_without_the_kernels_help_the_result_is_the_same(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(sharded, (1, 3))
    for name in ("kernel", "plain"):
        (tmp_path / name).mkdir()
        write_weights(plan, tmp_path / name)
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    for file in (tmp_path / "kernel").iterdir():
        assert (tmp_path / "plain" / file.name).read_bytes() == file.read_bytes()


def test_files_get_the_permissions_of_any_other(whole_plan: PrunePlan, out: Path) -> None:
    for file in weight_files(whole_plan.folder):
        file.chmod(0o600)
    write_weights(whole_plan, out)
    (out / "plain.txt").touch()
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1


def test_progress_counts_every_job(sharded: Path, out: Path) -> None:
    reporter = Noting()
    files = write_weights(make_plan(sharded, (0, 2)), out, reporter)
    assert reporter.totals == [len(files)]  # small files are one job each


def test_empty_tensors_make_files_too(sharded: Path, out: Path) -> None:
    plan = make_plan(sharded, (0, 2))
    file = weight_files(sharded)[0]
    save_file({"extra.empty": torch.empty(0, 3)}, file)
    entry = read_header(file).tensors["extra.empty"]
    write_weights(replace(plan, moves=(Move(entry, "extra.renamed", entry.dtype),)), out)
    assert weights_of(out)["extra.renamed"].shape == (0, 3)


def test_without_a_cast_torch_is_never_imported(sharded: Path, out: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from puma_cli.pruning.planning.plan import make_plan\n"
        "from puma_cli.pruning.writing.truncate import write_weights\n"
        "write_weights(make_plan(Path(sys.argv[1]), (0, 1)), Path(sys.argv[2]))\n"
        "sys.exit(bool({'torch', 'transformers', 'numpy', 'safetensors'} & set(sys.modules)))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(sharded), str(out)], check=True)
    assert weight_files(out)

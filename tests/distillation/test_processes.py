"""Several processes compute what one does, whatever they hold and however a batch falls to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from puma_cli.distillation.shares import deal
from puma_cli.models.inputs import Input
from puma_cli.processes import ALONE
from tests.distillation.shared_steps import CASES, Case, gradients, of_case

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shared(
    tiny_checkpoint: Path, tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensor]:
    """The gradients of all cases, as two processes find them."""
    output = tmp_path_factory.mktemp("shared") / "gradients.safetensors"
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["-m", "tests.distillation.shared_steps"]
    done = subprocess.run(
        [sys.executable, "-m", *words, tiny_checkpoint, tiny_scenes, output],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(output)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_processes_have_the_gradient_of_one(
    shared: dict[str, Tensor], case: Case, tiny_checkpoint: Path, tiny_scenes: Path
) -> None:
    found = dict(of_case(shared, case))
    expected = gradients(case, tiny_checkpoint, tiny_scenes, ALONE)
    # A sharded layer has a gradient of zeros where a whole one has none.
    assert found.keys() >= expected.keys()
    assert not any(found[name].any() for name in found.keys() - expected.keys())
    assert any("layers.1" in name for name in expected) and "norm" in expected
    assert ("embed_token.row" in expected) == (case.trains == "token")
    for name, value in expected.items():
        scale = max(1e-30, float(value.norm()))
        assert float((found[name] - value).norm()) <= 1e-12 * scale, name


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_inputs_are_dealt_to_all_alike(processes: int) -> None:
    inputs = [Input(text="x" * length) for length in (9, 1, 30, 4)]
    inputs += [Input(image=Path("a.png")), Input(image=Path("b.png"), text="y")]
    shares = deal(inputs, processes)
    assert sorted(place for share in shares for place in share) == list(range(6))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with_images = [sum(inputs[place].image is not None for place in share) for share in shares]
    assert max(with_images) - min(with_images) <= 1
    if processes == 1:
        assert shares == [list(range(6))]

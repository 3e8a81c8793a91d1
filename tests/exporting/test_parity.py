"""An export makes the model's vectors in stock loaders, and what is wrong with one is noticed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from puma_cli.config.settings import ExportSettings
from puma_cli.errors import VerificationError
from puma_cli.exporting.export import export
from puma_cli.exporting.formats import PARITY
from puma_cli.exporting.loaders import with_transformers
from puma_cli.exporting.parity import check
from puma_cli.exporting.parity.check import check_export
from puma_cli.exporting.parity.probes import ProbeBatch, probe_batches
from puma_cli.exporting.parity.reference import reference
from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load
from tests.exporting.architectures import differences
from tests.exporting.conftest import without_torchvision


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, ProbeBatch]:
    return probe_batches(tmp_path_factory.mktemp("probes"), images=True)


@pytest.fixture(scope="module")
def model(headed_model: Path) -> Embedder:
    return reference(headed_model, "float32", load(headed_model, "cpu").head)


def _worst(folder: Path, model: Embedder, batches: Mapping[str, ProbeBatch]) -> float:
    return max(differences(with_transformers, folder, model, batches).values())


def test_sentence_transformers_makes_the_same_vectors(
    exported: Path, model: Embedder, tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers")
    source = exported / "sentence-transformers"
    opened = without_torchvision(source, tmp_path / "opened")
    found = check_export(source, model, "sentence-transformers", opened)
    assert len(found.cases) == 18 and found.worst <= 2e-5
    assert found.loader.startswith("sentence-transformers ")


def test_the_code_on_the_card_runs(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers")
    folder = without_torchvision(exported / "sentence-transformers", tmp_path / "opened")
    monkeypatch.chdir(folder)
    Image.new("RGB", (40, 60), "red").save("picture.png")
    blocks = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["queries"].shape == (1, 24) and names["documents"].shape == (2, 24)


def test_an_export_is_compared_in_a_process_of_its_own_and_says_so(
    headed_model: Path, tmp_path: Path
) -> None:
    settings = ExportSettings(
        str(headed_model),
        tmp_path / "out",
        format="transformers",
        dtype="bfloat16",
        dimensions=16,
        shard_size="20kB",
    )
    result = export(settings)
    (parity,) = result.parity["transformers"]
    assert result.dimension == 16 and parity.worst <= 2e-5 and len(parity.cases) == 18
    written = json.loads((settings.output_dir / PARITY).read_text())
    assert written["checks"][0]["worst"] == parity.worst
    assert len(list(settings.output_dir.glob("model-*.safetensors"))) > 1
    # Rounded weights and the first 16 of 24 numbers, to puma too.
    found = load(settings.output_dir, "cpu", "float32")
    assert found.dimension == 16
    texts = [entry for batch in probe_batches(tmp_path, False).values() for entry in batch.inputs]
    whole = reference(headed_model, "bfloat16", load(headed_model, "cpu").head)
    expected = whole.encode(texts)[:, :16]
    torch.testing.assert_close(
        found.encode(texts), torch.nn.functional.normalize(expected, dim=1), atol=1e-5, rtol=0
    )


def test_other_positions_are_far_away(
    batches: Mapping[str, ProbeBatch], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from transformers import Qwen2VLModel

    # A trained model: small random weights look at all tokens alike, wherever they are.
    export(ExportSettings("puma-mini", tmp_path / "out", format="transformers", verify=False))
    model = load("puma-mini", "cpu", "float32")
    assert _worst(tmp_path / "out", model, batches) <= 2e-5
    plain = Qwen2VLModel.forward

    def elsewhere(self: Any, *args: Any, **given: Any) -> Any:
        if "position_ids" not in given:  # puma gives them
            rows, width = given["input_ids"].shape
            # Only distances count: positions that begin later, after padding, would be the same.
            given["position_ids"] = (2 * torch.arange(width)).expand(3, rows, -1)
        return plain(self, *args, **given)

    monkeypatch.setattr(Qwen2VLModel, "forward", elsewhere)
    assert _worst(tmp_path / "out", model, batches) > 1e-3


def test_other_vectors_leave_no_folder(
    headed_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "puma_cli.exporting.format_files.exported_template", lambda own: own.template + " "
    )
    with pytest.raises(VerificationError, match=r"other vectors|does not open"):
        export(ExportSettings(str(headed_model), tmp_path / "out", format="transformers"))
    assert not (tmp_path / "out").exists()


def test_a_loader_that_is_not_there_is_said_not_to_be(
    exported: Path, model: Embedder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "absent.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'transformers'\")"
    )
    monkeypatch.setattr(check, "_SCRIPTS", {"transformers": str(tmp_path / "absent.py")})
    found = check_export(exported / "transformers", model, "transformers")
    assert found.unchecked == "transformers is not installed" and not found.cases

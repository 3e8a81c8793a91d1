"""What is wrong with an installation is found, and named."""

import json
import sys
from pathlib import Path

import pytest
import torch

from puma_cli.cli.app import run
from puma_cli.diagnosis import packages, self_test
from puma_cli.diagnosis.findings import BAD, Finding
from puma_cli.diagnosis.machine import examine_disk, examine_gpus, examine_machine
from puma_cli.models.embedder import Embedder
from puma_cli.models.processing import Batch


def _bad(findings: list[Finding]) -> list[str]:
    return [finding.problem for finding in findings if finding.state == BAD]


def test_what_is_needed_is_there_in_a_version_that_serves() -> None:
    found = list(packages.examine_packages())
    assert not _bad(found)
    assert {"puma", "python", "torch", "transformers"} <= {finding.name for finding in found}
    # Extras are not needed.
    assert "pytest" not in {finding.name for finding in found}


def test_missing_and_outdated_packages_are_problems_with_a_command_that_mends_them() -> None:
    found = list(packages.examine_packages(["torch>=99", "no-such-thing>=1", "numpy>=1"]))
    assert _bad(found) == [
        f"torch is {packages.version_of('torch')}; puma needs >=99.",
        "no-such-thing is not installed; puma needs >=1.",
    ]
    assert [f.hint for f in found if f.state == BAD] == [
        "pip install 'torch>=99'",
        "pip install 'no-such-thing>=1'",
    ]


def test_a_package_that_does_not_import_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_part.py").write_text("raise RuntimeError('operator does not exist')")
    (tmp_path / "slow_part.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert packages.why_not_imported("broken_part") == "RuntimeError: operator does not exist"
    assert packages.why_not_imported("json") == ""
    assert packages.why_not_imported("slow_part", patience=0.5) is None
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(packages, "OPTIONAL", (("broken", "broken_part", "a test"),))
    monkeypatch.setattr(packages, "LOOKED_FOR", "no_such_part")
    assert _bad(list(packages.examine_optional())) == [
        "broken unknown version is installed, but does not import: "
        "RuntimeError: operator does not exist"
    ]


def test_the_machine_is_described_with_the_variables_that_steer_it(tmp_path: Path) -> None:
    found = list(examine_machine({"HF_HUB_OFFLINE": "1", "HOME": "/"}, tmp_path / "absent"))
    values = {finding.name: finding.value for finding in found}
    assert values["HF_HUB_OFFLINE"] == "1" and "HOME" not in values
    assert values["memory free"].endswith(" GB")


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
def test_a_driver_without_a_torch_that_sees_it_is_a_problem(tmp_path: Path) -> None:
    driver = tmp_path / "version"
    assert [f.value for f in examine_gpus(driver)] == ["none"]
    driver.touch()
    (problem,) = _bad(list(examine_gpus(driver)))
    assert "sees none" in problem


def test_a_folder_that_is_not_there_yet_is_looked_at_where_it_will_be(tmp_path: Path) -> None:
    found = examine_disk("disk", tmp_path / "not" / "yet")
    assert str(tmp_path / "not" / "yet") in found.value


def test_the_model_says_what_it_said() -> None:
    findings = self_test.examine_model("cpu")
    assert not _bad(findings) and len(findings) == 5
    first, *others = torch.tensor(self_test.recorded())
    assert all((first - other).norm() > 0.1 for other in others)


def test_images_that_are_left_out_of_account_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Embedder.post_norm_states

    def blind(self: Embedder, batch: Batch, vision: object = None) -> torch.Tensor:
        seen = self.vision_features(batch)
        if seen is not None:
            seen.pooler_output = [torch.zeros_like(rows) for rows in seen.pooler_output]
        return plain(self, batch, seen)

    monkeypatch.setattr(Embedder, "post_norm_states", blind)
    problems = _bad(self_test.examine_model("cpu"))
    assert len(problems) == 3 and not any("a text" in problem for problem in problems)


def test_the_command_tells_and_its_code_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "OPTIONAL", ())
    monkeypatch.setattr(packages, "LOOKED_FOR", "no_such_part")
    monkeypatch.setattr("puma_cli.diagnosis.diagnose.examine_machine", lambda: iter(()))
    assert run(["doctor", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == 0
    bad = Finding("machine", "GPU", "not usable", BAD, "Torch sees none.", "Install another.")
    monkeypatch.setattr("puma_cli.diagnosis.diagnose.examine_machine", lambda: iter((bad,)))
    assert run(["doctor", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "1. Torch sees none.\n   Install another." in out

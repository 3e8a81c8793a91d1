"""`prune` end to end: every layout in, a stock checkpoint out, and nothing after a failure."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, Qwen2VLForConditionalGeneration

from puma_cli.checkpoint import kinds
from puma_cli.checkpoint.fingerprint import fingerprint
from puma_cli.checkpoint.inspection import inspect_folder
from puma_cli.checkpoint.provenance import Parent, describe, read_provenance, write_provenance
from puma_cli.config.settings import PruneSettings
from puma_cli.errors import CheckpointError, ConfigError, OutputError, VerificationError
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.pruning import prune as prune_module
from puma_cli.pruning.prune import prune
from puma_cli.pruning.writing.truncate import write_weights
from tests.pruning.conftest import edit_json, weights_of
from tests.residual_stream import residual_states


def settings(model: Path | str, out: Path, **changes: Any) -> PruneSettings:
    return PruneSettings(model=str(model), output_dir=out, **changes)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kept", [(0, 1), (0, 3), (0, 1, 2, 3)])
def test_every_layout_opens_and_follows_its_parent(
    parent: Path, tmp_path: Path, kept: tuple[int, ...]
) -> None:
    out = tmp_path / "cut"
    result = prune(settings(parent, out, layers=",".join(map(str, kept))))
    assert result.folder == out
    assert result.parity is not None
    assert result.parity.difference <= 1e-5
    model, report = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not any(report.values())
    assert len(model.language_model.layers) == len(kept)
    assert {t.dtype for t in weights_of(out).values()} == {
        t.dtype for t in weights_of(parent).values()
    }


def test_the_output_is_the_norm_of_the_parents_inner_states(
    parents: dict[str, Path], tmp_path: Path
) -> None:
    prune(settings(parents["base"], tmp_path / "cut", keep=2, verify="none"))
    inputs = [Input(text="a red square"), Input(text="on sand", instruction="Find it.")]
    whole, cut = load(parents["base"], device="cpu"), load(tmp_path / "cut", device="cpu")
    batch = whole.collate(inputs)
    with torch.inference_mode():
        expected = whole.read_out(residual_states(whole, batch)[2])
        assert torch.allclose(cut.embed(cut.collate(inputs)), expected, atol=1e-5)
        assert not torch.allclose(whole.embed(batch), expected, atol=1e-2)


def test_a_tied_generation_checkpoint_still_opens_as_one(
    parents: dict[str, Path], tmp_path: Path
) -> None:
    prune(settings(parents["tied"], tmp_path / "cut", keep=2))
    loader: Any = Qwen2VLForConditionalGeneration
    _, report = loader.from_pretrained(tmp_path / "cut", output_loading_info=True)
    assert not any(report.values())


def test_side_files_come_along_and_history_is_new(parents: dict[str, Path], tmp_path: Path) -> None:
    parent = Path(shutil.copytree(parents["base"], tmp_path / "parent"))
    (parent / "1_Pooling").mkdir()
    (parent / "1_Pooling" / "config.json").write_text("{}")
    (parent / "2_Dense").mkdir()
    (parent / "2_Dense" / "model.safetensors").write_bytes(b"its own weights")
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]
    (parent / "modules.json").write_text(json.dumps(modules))
    (parent / "modeling_custom.py").write_text("x = 1\n")
    (parent / "another").mkdir()
    for name in ("config.json", "puma.json"):
        (parent / "another" / name).write_text("{}")
    (parent / "README.md").write_text("---\nlicense: mit\n---\n# Parent\n")
    for stale in ("pytorch_model.bin", "log.jsonl", "model.onnx"):
        (parent / stale).write_text("stale")
    (parent / "last").mkdir()
    (parent / "last" / "config.json").write_text("{}")
    prune(settings(parent, tmp_path / "cut", keep=2))
    added = {"1_Pooling", "2_Dense", "modules.json", "modeling_custom.py"}
    expected = {*names(parents["base"]), *added, "README.md", "puma.json"}
    assert set(names(tmp_path / "cut")) == expected
    assert names(tmp_path / "cut" / "2_Dense") == ["model.safetensors"]
    for name in ("tokenizer.json", "preprocessor_config.json", "embedder.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (parent / name).read_bytes()
    card = (tmp_path / "cut" / "README.md").read_text()
    assert 'license: "mit"' in card
    assert "# Parent" not in card


def test_history_names_parent_layers_and_proof(parents: dict[str, Path], tmp_path: Path) -> None:
    prune(settings(parents["base"], tmp_path / "cut", layers="0-1,3"))
    history = read_provenance(tmp_path / "cut")
    assert history is not None
    assert history.command == "prune"
    assert history.kept_layers == [0, 1, 3]
    assert history.settings["layers"] == "0-1,3"
    assert history.parents == (Parent("model", str(parents["base"]), fingerprint(parents["base"])),)
    assert history.results["parity"]["difference"] <= 1e-5
    report = inspect_folder(tmp_path / "cut")
    assert report.kind == kinds.PRUNED
    assert report.parents[0].state == "unchanged"


def test_a_stock_parent_gives_a_folder_that_says_how_it_embeds(
    parents: dict[str, Path], tmp_path: Path
) -> None:
    prune(settings(parents["stock"], tmp_path / "cut", keep=2))
    embedder = json.loads((tmp_path / "cut" / "embedder.json").read_text())
    assert embedder["embed_token"] == "<|endoftext|>"
    template = (tmp_path / "cut" / "chat_template.jinja").read_text()
    assert template == embedder["template"]
    size = json.loads((tmp_path / "cut" / "preprocessor_config.json").read_text())["size"]
    assert size == {
        "shortest_edge": embedder["min_pixels"],
        "longest_edge": embedder["max_pixels"],
    }


def test_nothing_is_printed(
    parents: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prune(settings(parents["untied"], tmp_path / "cut", keep=2))
    assert capfd.readouterr() == ("", "")


def test_a_dry_run_plans_and_writes_nothing(parents: dict[str, Path], tmp_path: Path) -> None:
    result = prune(settings(parents["base"], tmp_path / "cut", keep=1, dry_run=True))
    assert result.folder is None
    assert result.plan.kept == (0,)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({}, "Nothing says which layers"),
        ({"keep": 1, "layers": "0"}, "given twice: by keep and by layers"),
        ({"keep": 0}, "keep = 0 is not possible"),
        ({"keep": 5}, "5 layers cannot be kept of 4"),
        ({"layers": "0,4"}, "no decoder layer 4"),
        ({"layers": "0-x"}, "no range"),
    ],
)
def test_wrong_choices_are_refused_and_leave_nothing(
    parents: dict[str, Path], tmp_path: Path, choice: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        prune(settings(parents["base"], tmp_path / "cut", **choice))
    assert names(tmp_path) == []


def test_a_profile_decides_only_for_its_own_model(
    parents: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Profile:
        layers = (0, 1, 2)

    monkeypatch.setattr("puma_cli.profiling.profile.read_profile", lambda _: Profile)
    for name, model in (("mine", "base"), ("other", "tied")):
        (tmp_path / name).mkdir()
        of = Parent("model", str(parents[model]), fingerprint(parents[model]))
        write_provenance(tmp_path / name, describe("analyze", {}, [of]))
    mine = settings(parents["base"], tmp_path / "cut", profile=tmp_path / "mine", full_hash=True)
    assert prune(mine).plan.kept == (0, 1, 2)
    history = read_provenance(tmp_path / "cut")
    assert history is not None
    assert [parent.role for parent in history.parents] == ["model", "profile"]
    assert all(parent.fingerprint.startswith("sha256:") for parent in history.parents)
    with pytest.raises(ConfigError, match="is not of the model"):
        prune(settings(parents["base"], tmp_path / "cut2", profile=tmp_path / "other"))


def test_a_missing_profile_is_named(parents: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no-such-profile"):
        prune(settings(parents["base"], tmp_path / "cut", profile=tmp_path / "no-such-profile"))


def test_a_taken_folder_is_refused_and_overwrite_replaces_it(
    parents: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    prune(settings(parents["base"], out, keep=2))
    with pytest.raises(OutputError, match="not empty"):
        prune(settings(parents["base"], out, keep=1))
    assert len(AutoModel.from_pretrained(out).language_model.layers) == 2
    prune(settings(parents["base"], out, keep=1, overwrite=True))
    assert len(AutoModel.from_pretrained(out).language_model.layers) == 1
    assert names(tmp_path) == ["cut"]


def test_a_model_is_not_written_over_itself(parents: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "cut"
    prune(settings(parents["base"], out, keep=3))
    for target in (out, tmp_path):
        (target / "puma.json").touch()
        with pytest.raises(OutputError, match="which the result is made from"):
            prune(settings(out, target, keep=1, overwrite=True))
    assert len(AutoModel.from_pretrained(out).language_model.layers) == 3


@pytest.mark.parametrize(
    ("failure", "becomes"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),
    ],
)
def test_interruption_and_a_full_disk_leave_nothing(
    parents: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    becomes: type[BaseException],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(prune_module, "write_weights", fail)
    with pytest.raises(becomes):
        prune(settings(parents["base"], tmp_path / "cut", keep=2))
    assert names(tmp_path) == []


def test_a_cut_that_fails_its_proof_leaves_nothing(
    parents: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(plan: Any, folder: Path, *_: Any, **__: Any) -> None:
        write_weights(plan, folder)
        edit_json(folder / "config.json", lambda c: c["text_config"].update(rms_norm_eps=0.5))

    monkeypatch.setattr(prune_module, "write_weights", spoil)
    with pytest.raises(VerificationError, match="differs"):
        prune(settings(parents["base"], tmp_path / "cut", keep=2))
    assert names(tmp_path) == []


def test_a_layout_that_loses_its_vision_tower_is_refused(parent_copy: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    renamed = {f"model.{name}": tensor for name, tensor in weights_of(parent_copy).items()}
    save_file(renamed, parent_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VerificationError, match="lacks the weight `visual"):
        prune(settings(parent_copy, tmp_path / "cut", keep=2))
    assert names(tmp_path) == ["parent"]


def test_truncated_weights_and_no_checkpoint_are_refused(parent_copy: Path, tmp_path: Path) -> None:
    weights = parent_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        prune(settings(parent_copy, tmp_path / "cut", keep=2))
    (parent_copy / "config.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        prune(settings(parent_copy, tmp_path / "cut", keep=2))
    assert names(tmp_path) == ["parent"]

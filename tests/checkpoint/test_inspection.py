"""`inspect_folder` says what a folder is and what to type next."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from puma_cli.checkpoint import kinds
from puma_cli.checkpoint.fingerprint import fingerprint
from puma_cli.checkpoint.inspection import inspect_folder
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.errors import CheckpointError
from tests.checkpoint.models import write_generation


def test_a_stock_checkpoint_says_its_size_and_the_token_it_ends_on(weights_copy: Path) -> None:
    tokens = {"added_tokens": [{"content": "<|endoftext|>"}, {"content": "<|im_end|>"}]}
    (weights_copy / "tokenizer.json").write_text(json.dumps(tokens))
    (weights_copy / "preprocessor_config.json").write_text("{}")
    report = inspect_folder(weights_copy)
    facts = dict(report.facts)
    assert report.kind == kinds.STOCK
    assert facts["architecture"] == "Qwen2VLModel (qwen2_vl)"
    assert facts["decoder layers"] == "4"
    assert "vision" in facts["parameters"]
    assert "F32" in facts["weights"]
    assert facts["ends on"] == "<|im_end|> (read there)"
    assert facts["embeds by"] == "the paper's prompt: it has no embedder.json"
    assert report.next_command.startswith(f"puma analyze {shlex.quote(str(weights_copy))} --data")


def test_a_checkpoint_that_cannot_embed_says_why(weights_copy: Path) -> None:
    (weights_copy / "tokenizer.json").write_text('{"added_tokens": []}')
    assert "no token to embed at" in dict(inspect_folder(weights_copy).facts)["embeds"]


def test_parts_are_told_in_the_generation_layout(tmp_path: Path) -> None:
    facts = dict(inspect_folder(write_generation(tmp_path / "model")).facts)
    assert "LM head 10.2 k" in facts["parameters"]
    assert "token embeddings 10.2 k" in facts["parameters"]


def test_parents_are_compared_with_what_they_were(weights_copy: Path, tmp_path: Path) -> None:
    child = Path(shutil.copytree(weights_copy, tmp_path / "child"))
    parents = [
        Parent("model", str(weights_copy), fingerprint(weights_copy)),
        Parent("data", str(tmp_path / "gone"), "sampled-sha256:00"),
    ]
    write_provenance(child, describe("prune", {"keep": 2}, parents, kept_layers=[0, 1, 2, 11]))
    report = inspect_folder(child)
    assert report.kind == kinds.PRUNED
    assert [parent.state for parent in report.parents] == ["unchanged", "not found here"]
    assert dict(report.facts)["kept layers"] == "0-2, 11 (4)"
    assert f"--teacher {shlex.quote(str(weights_copy))}" in report.next_command
    (weights_copy / "config.json").write_text("{}")
    assert inspect_folder(child).parents[0].state == "changed since"


@pytest.mark.parametrize(
    ("command", "kind", "says"),
    [
        ("analyze", kinds.PROFILE, "puma prune puma-mini --profile "),
        ("evaluate", kinds.SCORES, "puma compare "),
        ("make_scenes", kinds.DATA, "puma analyze puma-mini --data "),
        ("mine", kinds.MINED, "puma distill STUDENT --teacher puma-mini --data "),
        ("demo", kinds.DEMO, "puma demo "),
    ],
)
def test_every_result_leads_to_the_next_command(
    tmp_path: Path, command: str, kind: str, says: str
) -> None:
    for room in ("query", "cand_pool"):
        (tmp_path / room).mkdir()
    results = {"recommended": 4, "mean": 0.51234}
    parents = [Parent("model", "puma-mini", "sampled-sha256:00")]
    write_provenance(tmp_path, describe(command, {"data": "d"}, parents, results=results))
    report = inspect_folder(tmp_path)
    assert report.kind == kind
    assert report.next_command.startswith(says)
    assert ("recommended", "4") in report.facts
    assert ("mean", "0.5123") in report.facts


def test_an_unfinished_training_leads_to_its_own_resumption(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "settings.json").write_text('{"student": "fresh", "seed": 3}')
    report = inspect_folder(tmp_path)
    assert report.kind == kinds.UNFINISHED
    assert ("student", "fresh") in report.facts
    assert report.next_command.endswith("--resume")
    assert "training/settings.json" in report.next_command


def test_a_data_set_names_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "cand_pool").mkdir()
    (tmp_path / "query" / "test").mkdir(parents=True)
    (tmp_path / "query" / "test" / "mbeir_x_task3_test.jsonl").touch()
    report = inspect_folder(tmp_path)
    assert report.kind == kinds.DATA
    assert ("test", "x_task3") in report.facts


def test_other_folders_and_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    report = inspect_folder(tmp_path)
    assert report.kind == kinds.UNKNOWN
    assert report.facts == [("holds", "holiday.jpg")]
    assert report.next_command == f"puma embed puma-mini {tmp_path} --output-dir index"
    (tmp_path / "holiday.jpg").rename(tmp_path / "holiday.mov")
    assert inspect_folder(tmp_path).next_command == "puma --help"
    (tmp_path / "holiday.mov").rename(tmp_path / "holiday.jpg")
    with pytest.raises(CheckpointError, match="is a file"):
        inspect_folder(tmp_path / "holiday.jpg")
    with pytest.raises(CheckpointError, match="There is no model"):
        inspect_folder(tmp_path / "holidya")
    with pytest.raises(CheckpointError, match="is empty"):
        inspect_folder("")


def test_data_that_are_gone_are_not_proposed(weights_copy: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    write_provenance(weights_copy, describe("distill", {"data": str(gone)}, []))
    assert " --data DATA " in inspect_folder(weights_copy).next_command
    for room in ("query", "cand_pool"):
        (gone / room).mkdir(parents=True)
    assert f" --data {gone} " in inspect_folder(weights_copy).next_command


def test_nothing_is_fetched_to_be_inspected(
    weights_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def snapshot(name: str, **options: object) -> str:
        asked.append(options)
        if name != "some-org/cached":
            raise LocalEntryNotFoundError("not cached")
        return str(weights_copy)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert inspect_folder("some-org/cached").kind == kinds.STOCK
    with pytest.raises(CheckpointError, match="no hub model of that name is cached"):
        inspect_folder("some-org/other")
    assert all(options["local_files_only"] for options in asked)


def test_truncated_weights_are_an_error(weights_copy: Path) -> None:
    weights = weights_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated"):
        inspect_folder(weights_copy)

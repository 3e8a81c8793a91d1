"""Plans with a fault are caught by the proof, whatever the architecture."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.errors import VerificationError
from puma_cli.pruning.planning.plan import Move, PrunePlan, make_plan
from puma_cli.pruning.proof.key_check import check_keys
from puma_cli.pruning.proof.parity import check_parity
from puma_cli.pruning.writing.truncate import write_weights
from tests.pruning.conftest import edit_json
from tests.zoo import FAMILIES, MULTIMODAL, Zoo
from tests.zoo.cut import cut_by_command

FIRST = (0, 1, 2, 3)
SOME = (0, 1, 2, 5)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


def written(plan: PrunePlan, folder: Path, **changes: Any) -> Path:
    """Write a plan with fields changed, as a planner with a fault would have it."""
    folder.mkdir()
    write_weights(replace(plan, **changes), folder)
    return folder


def prove(parent: Path, folder: Path, kept: Sequence[int]) -> None:
    """Run both proofs, as `--verify full` does."""
    check_keys(folder)
    check_parity(parent, folder, kept)


def lacking(moves: Sequence[Move], part: str) -> tuple[Move, ...]:
    """Return the moves without the first of a tensor with `part` in its name."""
    victim = next(move for move in moves if part in move.name)
    return tuple(move for move in moves if move is not victim)


def shifted(plan: PrunePlan, prefix: str) -> tuple[Move, ...]:
    """Return the moves with the weights of each kept layer taken from the layer after it."""
    entries = checkpoint_headers(plan.folder)
    moves = []
    for move in plan.moves:
        name = move.entry.name
        index, _, rest = name.removeprefix(prefix).partition(".")
        later = f"{prefix}{int(index) + 1}.{rest}" if name.startswith(prefix) else name
        moves.append(replace(move, entry=entries.get(later, move.entry)))
    return tuple(moves)


VISION = ("vision", "visual", "image_embed")


@pytest.mark.parametrize("name", sorted(MULTIMODAL))
def test_a_lost_vision_tensor_is_caught(name: str, zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder(name)
    plan = make_plan(parent, FIRST)
    part = next(part for part in VISION if any(part in move.name for move in plan.moves))
    mutant = written(plan, tmp_path / "cut", moves=lacking(plan.moves, part))
    with pytest.raises(VerificationError, match="lacks the weight"):
        check_keys(mutant)
    with pytest.raises(VerificationError, match="lacks the weight"):
        check_parity(parent, mutant, FIRST)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_layers_shifted_by_one_are_caught(name: str, zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder(name)
    plan = make_plan(parent, FIRST)
    mutant = written(plan, tmp_path / "cut", moves=shifted(plan, FAMILIES[name].decoder[0]))
    with pytest.raises(VerificationError):
        prove(parent, mutant, FIRST)


def section_with(config: dict[str, Any], field: str) -> dict[str, Any]:
    """Return the part of a raw config that has `field`."""
    section = config if field in config else config["text_config"]
    assert field in section
    return dict(section)


def with_field(config: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """Return a raw config with a field of its decoder replaced."""
    section = {**section_with(config, field), field: value}
    return section if field in config else {**config, "text_config": section}


LISTED = ("qwen2", "gemma3_text", "qwen2_5_vl", "llava_onevision", "gemma3", "aya_vision", "llama4")


@pytest.mark.parametrize("name", LISTED)
def test_layer_types_that_are_not_cut_are_caught(name: str, zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder(name)
    plan = make_plan(parent, SOME)
    raw = transformers.PreTrainedConfig.get_config_dict(parent)[0]
    whole = section_with(raw, "layer_types")["layer_types"]
    assert len(whole) == 6
    mutant = written(plan, tmp_path / "cut", config=with_field(plan.config, "layer_types", whole))
    with pytest.raises(VerificationError):
        check_keys(mutant)


@pytest.mark.parametrize("name", [name for name in LISTED if name != "llama4"])
def test_layer_types_of_other_layers_are_caught(name: str, zoo: Zoo, tmp_path: Path) -> None:
    parent = zoo.folder(name)
    plan = make_plan(parent, SOME)
    types = section_with(plan.config, "layer_types")["layer_types"]
    other = [
        "full_attention" if kind != "full_attention" else "sliding_attention" for kind in types
    ]
    mutant = written(plan, tmp_path / "cut", config=with_field(plan.config, "layer_types", other))
    with pytest.raises(VerificationError, match="differs from"):
        check_parity(parent, mutant, SOME)


def with_long_windows(folder: Path, copy: Path) -> Path:
    """Return a copy of a checkpoint whose windows are longer than any probe, as published ones."""
    shutil.copytree(folder, copy)

    def lengthen(config: dict[str, Any]) -> None:
        section = config.get("text_config", config)
        fields = [key for key in ("sliding_window", "attention_chunk_size") if key in section]
        section.update(dict.fromkeys(fields, 4096))
        assert fields

    edit_json(copy / "config.json", lengthen)
    return copy


@pytest.mark.parametrize("name", ["gemma2", "qwen2", "qwen2_5_vl", "llama4"])
def test_layer_types_count_where_windows_are_long(name: str, zoo: Zoo, tmp_path: Path) -> None:
    parent = with_long_windows(zoo.folder(name), tmp_path / "parent")
    plan = make_plan(parent, SOME)
    types = section_with(plan.config, "layer_types")["layer_types"]
    windowed = next(kind for kind in types if kind != "full_attention")
    other = [windowed if kind == "full_attention" else "full_attention" for kind in types]
    right = written(plan, tmp_path / "right")
    assert check_parity(parent, right, SOME).bit_equal
    mutant = written(plan, tmp_path / "cut", config=with_field(plan.config, "layer_types", other))
    with pytest.raises(VerificationError, match="differs from"):
        check_parity(parent, mutant, SOME)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("mllama", "cross_attention_layers", [0]),
        ("mllama", "cross_attention_layers", [2]),
        ("llama4", "no_rope_layers", [0, 1, 1, 1]),
        ("llama4", "moe_layers", [0, 2]),
        ("qwen3_moe", "mlp_only_layers", [0]),
        ("qwen3_vl_moe", "mlp_only_layers", []),
        ("glm4v_moe", "first_k_dense_replace", 2),
        ("gemma3", "sliding_window", 5),
        ("llava", "num_hidden_layers", 3),
        ("llava", "num_hidden_layers", 5),
    ],
)
def test_other_wrong_fields_are_caught(
    name: str, field: str, value: Any, zoo: Zoo, tmp_path: Path
) -> None:
    parent = zoo.folder(name)
    plan = make_plan(parent, FIRST)
    assert section_with(plan.config, field)[field] != value
    mutant = written(plan, tmp_path / "cut", config=with_field(plan.config, field, value))
    with pytest.raises(VerificationError):
        prove(parent, mutant, FIRST)


def without_vision(plan: PrunePlan) -> PrunePlan:
    return replace(plan, moves=lacking(plan.moves, "vis"))


def one_too_deep(plan: PrunePlan) -> PrunePlan:
    prefix = next(move.name for move in plan.moves if ".layers.0.self_attn" in move.name)
    return replace(plan, moves=shifted(plan, prefix.partition("0.")[0]))


def with_all_types(plan: PrunePlan) -> PrunePlan:
    types = section_with(plan.config, "layer_types")["layer_types"]
    return replace(plan, config=with_field(plan.config, "layer_types", [*types, *types]))


@pytest.mark.parametrize("mutate", [without_vision, one_too_deep, with_all_types])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_onevision", "gemma3"])
def test_a_broken_plan_leaves_nothing_behind(
    name: str,
    mutate: Callable[[PrunePlan], PrunePlan],
    zoo: Zoo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "puma_cli.pruning.prune.make_plan",
        lambda *args, **options: mutate(make_plan(*args, **options)),
    )
    cut_by_command(zoo.folder(name), tmp_path / "cut", FIRST, code=1)
    assert list(tmp_path.iterdir()) == []
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cut" in printed.err and "Traceback" not in printed.err

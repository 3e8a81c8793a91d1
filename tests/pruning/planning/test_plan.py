"""A plan says everything about a cut before anything is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from puma_cli.checkpoint import decoder_keys
from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.errors import CheckpointError, ConfigError
from puma_cli.pruning.planning.plan import depth_of, make_plan
from tests.pruning.conftest import edit_json, weights_of
from tests.pruning.headers import plain_decoder, sparse_checkpoint, write_sparse
from tests.zoo import FAMILIES, MULTIMODAL, write_checkpoint


def test_a_plan_counts_what_stays_and_what_goes(parents: dict[str, Path]) -> None:
    folder = parents["base"]
    plan = make_plan(folder, (0, 1, 3))
    tensors = weights_of(folder)
    gone = {name for name in tensors if "layers.2." in name}
    assert {drop.entry.name for drop in plan.dropped} == gone
    assert plan.bytes_before == sum(t.nbytes for t in tensors.values())
    assert plan.bytes_after == sum(t.nbytes for n, t in tensors.items() if n not in gone)
    assert plan.parameters == (plan.bytes_before // 4, plan.bytes_after // 4)
    layers = decoder_keys.LAYERS
    assert plan.parameters_after[layers] * 4 == plan.parameters_before[layers] * 3
    assert plan.parameters_after["vision"] == plan.parameters_before["vision"]
    assert not plan.first_only
    assert depth_of(folder) == plan.depth == 4
    assert json.loads(json.dumps(plan.summary()))["kept_layers"] == [0, 1, 3]


def test_names_stay_verbatim_but_for_the_layers_index(parents: dict[str, Path]) -> None:
    plan = make_plan(parents["tied"], (0, 3))
    renamed = {move.entry.name: move.name for move in plan.moves if move.entry.name != move.name}
    assert renamed
    for old, new in renamed.items():
        assert old.startswith("model.layers.3.")
        assert new == old.replace("model.layers.3.", "model.layers.1.")


def test_an_untied_head_goes_and_the_architecture_with_it(parents: dict[str, Path]) -> None:
    plan = make_plan(parents["untied"], range(4))
    assert [drop.entry.name for drop in plan.dropped] == ["lm_head.weight"]
    assert plan.config["architectures"] == ["Qwen2VLModel"]
    tied = make_plan(parents["tied"], range(2))
    assert tied.config["architectures"] == ["Qwen2VLForConditionalGeneration"]
    kept = make_plan(parents["untied"], range(4), head="keep")
    assert (kept.dropped, kept.changes, kept.notes) == ((), (), ())


def with_head(folder: Path, model_type: str = "llama", **fields: Any) -> Path:
    """Write four layers and a head."""
    names = {"architectures": [f"{model_type.title()}ForCausalLM"], "num_hidden_layers": 4}
    config = {"model_type": model_type, **names, **fields}
    return sparse_checkpoint(folder, config, {**plain_decoder(4), "lm_head.weight": (16, 8)})


def test_a_stored_copy_of_the_embeddings_goes_and_the_class_stays(tmp_path: Path) -> None:
    plan = make_plan(with_head(tmp_path, tie_word_embeddings=True), range(4))
    assert [(loss.reason[:4], loss.tensors, loss.parameters) for loss in plan.losses] == [
        ("copy", 1, 128)
    ]
    assert plan.changes == ()


def test_a_head_that_the_rest_needs_stays_and_the_plan_says_so(tmp_path: Path) -> None:
    shapes = {
        **plain_decoder(2, "model.language_model."),
        "model.visual.patch_embed.proj.weight": (8, 8),
        "lm_head.weight": (16, 8),
    }
    text = {"num_hidden_layers": 2}
    for number, model_type in enumerate(("qwen2_vl", "llama4")):
        folder = tmp_path / str(number)
        config = {"model_type": model_type, "architectures": ["X"], "text_config": text}
        sparse_checkpoint(folder, config, shapes)
        plan = make_plan(folder, (0,))
        assert "lm_head.weight" in {move.name for move in plan.moves}
        assert plan.notes[0].startswith("The LM head stays:")
        assert plan.config["architectures"] == ["X"]
        with pytest.raises(ConfigError, match="cannot be dropped"):
            make_plan(folder, (0,), head="drop")


def test_an_unknown_class_loses_its_head_if_its_name_tells_the_base(tmp_path: Path) -> None:
    plan = make_plan(with_head(tmp_path / "a", "nobody"), range(2))
    assert plan.config["architectures"] == ["NobodyModel"]
    own = with_head(tmp_path / "b", "nobody", auto_map={"AutoModel": "x.Y"})
    assert make_plan(own, range(2)).config["architectures"] == ["NobodyForCausalLM"]
    with pytest.raises(ConfigError, match="head = 'lose' is unknown"):
        make_plan(own, range(2), head="lose")


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("head", [True, False])
def test_the_decoder_of_every_architecture_is_found(name: str, head: bool, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path, layers=4, head=head)
    plan = make_plan(folder, range(4))
    prefix = FAMILIES[name].decoder[0 if head and not FAMILIES[name].base_only else 1]
    layers = {move.name for move in plan.moves if move.name.startswith(f"{prefix}3.")}
    assert layers
    gone = make_plan(folder, range(3)).dropped
    heads = {drop.entry.name for drop in gone if "lm_head" in drop.entry.name}
    assert {drop.entry.name for drop in gone} == layers | heads
    for part in ("vision", "token embeddings", "final norm"):
        assert (part == "vision" and name not in MULTIMODAL) or plan.parameters_before[part]
        assert plan.parameters_after.get(part) == plan.parameters_before.get(part)


def test_floating_tensors_are_cast_and_no_others(tmp_path: Path) -> None:
    shapes = {**plain_decoder(2), "model.position_ids": (4,)}
    others = {"model.position_ids": "I64", "model.norm.weight": "F32"}
    config = {"model_type": "llama", "num_hidden_layers": 2, "torch_dtype": "float32"}
    folder = sparse_checkpoint(tmp_path, config, shapes, "F16", **others)
    plan = make_plan(folder, range(2), dtype="bfloat16")
    assert {move.dtype for move in plan.moves} == {"BF16", "I64"}
    assert plan.casts == {("F16", "BF16"): 3, ("F32", "BF16"): 1}
    assert plan.bytes_before - plan.bytes_after == 2 * 8
    assert plan.config["torch_dtype"] == "bfloat16"
    assert make_plan(folder, range(2)).casts == {}
    with pytest.raises(ConfigError, match="dtype = 'int8' is unknown"):
        make_plan(folder, range(2), dtype="int8")


def test_quantised_weights_are_not_cast(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 2}
    packed = {"model.layers.1.mlp.weight": "F8_E4M3"}
    by_dtype = sparse_checkpoint(tmp_path / "a", config, plain_decoder(2), **packed)
    config = {**config, "quantization_config": {"quant_method": "gptq"}}
    by_config = sparse_checkpoint(tmp_path / "b", config, plain_decoder(2))
    for folder in (by_dtype, by_config):
        with pytest.raises(ConfigError, match="Quantised weights cannot be cast"):
            make_plan(folder, (0,), dtype="float16")
        assert make_plan(folder, (0,)).casts == {}


def test_layers_that_predict_further_tokens_go(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 3, "num_nextn_predict_layers": 1}
    plan = make_plan(sparse_checkpoint(tmp_path, config, plain_decoder(4)), range(3))
    assert depth_of(tmp_path) == plan.depth == 3
    assert [drop.entry.name for drop in plan.dropped] == ["model.layers.3.mlp.weight"]
    assert plan.config["num_nextn_predict_layers"] == 0


def test_tensors_as_wide_as_the_decoder_is_deep_are_refused(tmp_path: Path) -> None:
    config = {"model_type": "nobody", "num_hidden_layers": 2}
    shapes = {**plain_decoder(2), "model.embed_tokens_per_layer_input.weight": (16, 16)}
    with pytest.raises(CheckpointError, match="cannot be cut safely"):
        make_plan(sparse_checkpoint(tmp_path, config, shapes), (0,))


def test_known_headers_stand_in_for_files_that_are_elsewhere(
    parents: dict[str, Path], tmp_path: Path
) -> None:
    tensors = checkpoint_headers(parents["sharded"])
    shutil.copy(parents["sharded"] / "config.json", tmp_path)
    plan = make_plan(tmp_path, (0,), tensors=tensors)
    assert set(plan.files) == {move.entry.file.name for move in plan.moves}
    assert plan.summary() == make_plan(parents["sharded"], (0,)).summary()


def test_files_with_nothing_kept_are_not_read(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes = list(plain_decoder(4).items())
    files = ("model-00001-of-00003.safetensors", "b.safetensors", "c.safetensors")
    index: dict[str, str] = {}
    for file, part in zip(files, (shapes[:3], shapes[3:5], shapes[5:]), strict=True):
        write_sparse(tmp_path / file, dict(part))
        index |= {name: file for name, _ in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    # The file of the layers 2 and 3 is never needed.
    assert set(make_plan(tmp_path, range(2)).files) == {files[0], files[2]}
    assert set(make_plan(tmp_path, range(3)).files) == set(files)


def test_planning_loads_no_heavy_library(tmp_path: Path) -> None:
    folder = with_head(tmp_path)
    code = (
        "import sys; from pathlib import Path; "
        "from puma_cli.pruning.planning.budget import largest_within; "
        "from puma_cli.pruning.planning.plan import make_plan; "
        "from puma_cli.pruning.writing import side_files; "
        f"folder = Path({str(folder)!r}); make_plan(folder, (0,), dtype='float16'); "
        "largest_within(folder, size=10**6); side_files.find_side_files(folder); "
        "assert side_files.write_embedder_files(folder, folder) is False; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_planning_writes_nothing(parents: dict[str, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in parents["base"].iterdir()}
    make_plan(parents["base"], (0,))
    assert {path: path.stat().st_mtime_ns for path in parents["base"].iterdir()} == before


def test_layers_out_of_range_are_refused(parents: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="no decoder layer 4"):
        make_plan(parents["base"], (0, 4))


def test_weights_that_contradict_the_config_are_refused(parent_copy: Path) -> None:
    edit_json(parent_copy / "config.json", lambda c: c["text_config"].update(num_hidden_layers=6))
    with pytest.raises(CheckpointError, match=r"holds 4 decoder layers.*says 6"):
        make_plan(parent_copy, (0, 1))


def test_a_missing_layer_is_refused(parent_copy: Path) -> None:
    tensors = {n: t for n, t in weights_of(parent_copy).items() if "layers.1." not in n}
    save_file(tensors, parent_copy / "model.safetensors")
    with pytest.raises(CheckpointError, match="lacks decoder layer 1"):
        make_plan(parent_copy, (0,))


def test_truncated_weights_are_refused(parent_copy: Path) -> None:
    weights = parent_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        make_plan(parent_copy, (0,))

"""Every architecture of the zoo: cut, opened by its stock class, the same vectors; mutants die.

The reference is plain transformers on the parent, written out here: nothing of puma's own proof is
used to judge the cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.errors import VerificationError
from puma_cli.models.quiet import quiet_transformers
from puma_cli.pruning.key_check import check_keys
from puma_cli.pruning.parity import check_parity
from puma_cli.pruning.plan import Move, PrunePlan, make_plan
from puma_cli.pruning.probes import make_probes
from puma_cli.pruning.truncate import write_weights
from tests.zoo import FAMILIES, MULTIMODAL, Zoo
from tests.zoo.cut import write_cut

FIRST = (0, 1, 2, 3)
# The deepest layer follows a gap; the first ones stay, where some families add image features.
SOME = (0, 1, 2, 5)
# Relative to the largest value: what may differ, and what a wrong layer must differ by at least.
TOLERANCE = 1e-5
VISIBLE = 1e-2


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


def stock(folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """Open a folder with the class that its config names; return the model and the report."""
    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    with quiet_transformers():
        model, report = cls.from_pretrained(folder, output_loading_info=True)
    return model, report


def decoder(model: Any) -> Any:
    """Return the module that runs the decoder's layers."""
    depth = model.config.get_text_config().num_hidden_layers
    found = [
        module
        for module in model.get_decoder().modules()
        if isinstance(getattr(module, "layers", None), torch.nn.ModuleList)
        and len(module.layers) == depth
    ]
    return found[0]


@contextmanager
def without(model: Any, skipped: Sequence[int]) -> Iterator[None]:
    """Let a model's layers `skipped` hand on their input."""
    layers = [decoder(model).layers[index] for index in skipped]
    for layer in layers:
        layer.forward = lambda hidden_states, *args, **options: hidden_states
    yield
    for layer in layers:
        del layer.forward


def vectors(model: Any) -> dict[str, torch.Tensor]:
    """Return the last hidden states of each probe."""
    found: dict[str, torch.Tensor] = {}
    for probe in make_probes(model.config):
        with torch.inference_mode():
            output = model(**probe.inputs, use_cache=False, output_hidden_states=True)
        found[probe.name] = output.hidden_states[-1][0]
    return found


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def depth_vectors(model: Any, depth: int) -> dict[str, torch.Tensor]:
    """Return norm(h[depth]) of each probe: what goes into layer `depth`, through the final norm."""
    taken: list[torch.Tensor] = []
    whole = decoder(model)
    # Without an image, Mllama leaves its cross-attention layers out: the first that is called.
    handles = [
        layer.register_forward_pre_hook(lambda module, args: taken.append(args[0]))
        for layer in whole.layers[depth:]
    ]
    found = {}
    for probe in make_probes(model.config):
        taken.clear()
        with torch.inference_mode():
            model(**probe.inputs, use_cache=False)
            found[probe.name] = whole.norm(taken[0])[0]
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("kept", [FIRST, SOME], ids=["first", "some"])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_cut_opens_whole_and_computes_what_its_parent_does(
    name: str, kept: tuple[int, ...], zoo: Zoo, tmp_path: Path
) -> None:
    write_cut(zoo.folder(name), tmp_path / "cut", kept)
    cut, report = stock(tmp_path / "cut")
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert len(decoder(cut).layers) == len(kept)
    found = vectors(cut)
    assert set(found) == ({"text", "image", "image+text"} if name in MULTIMODAL else {"text"})
    parent, _ = stock(zoo.folder(name))
    with without(parent, [index for index in range(6) if index not in kept]):
        expected = vectors(parent)
    for probe, states in found.items():
        assert distance(states, expected[probe]) <= TOLERANCE
    if kept == FIRST:
        for probe, states in depth_vectors(parent, len(kept)).items():
            assert distance(found[probe], states) <= TOLERANCE


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_layer_of_the_zoo_counts(name: str, zoo: Zoo) -> None:
    model, _ = stock(zoo.folder(name))
    whole = vectors(model)
    last = list(whole)[-1]
    for index in range(6):
        with without(model, [index]):
            assert distance(vectors(model)[last], whole[last]) > VISIBLE


@pytest.mark.parametrize("kept", [FIRST, SOME], ids=["first", "some"])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_proof_passes_a_right_cut_of_each_family(
    name: str, kept: tuple[int, ...], zoo: Zoo, tmp_path: Path
) -> None:
    write_cut(zoo.folder(name), tmp_path / "cut", kept)
    check_keys(tmp_path / "cut")
    parity = check_parity(zoo.folder(name), tmp_path / "cut", kept)
    assert parity.bit_equal
    assert parity.note == ""


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

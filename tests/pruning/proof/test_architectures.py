"""Every architecture of the zoo: cut, opened by its stock class, the same vectors.

The reference is plain transformers on the parent, written out here: nothing of puma's own proof is
used to judge the cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from puma_cli.models.quiet import quiet_transformers
from puma_cli.pruning.proof.probes import make_probes
from tests.zoo import FAMILIES, MULTIMODAL, Zoo
from tests.zoo.cut import cut_by_command

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
    cut_by_command(zoo.folder(name), tmp_path / "cut", kept)
    said = json.loads((tmp_path / "cut" / "puma.json").read_text())["results"]
    assert said["verified"] == "full"
    assert said["parity"]["bit_equal"] and not said["parity"]["note"]
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

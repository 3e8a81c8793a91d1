"""Budgets are read strictly and used up as far as layers allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puma_cli.config.amounts import parse_count, parse_size
from puma_cli.errors import CheckpointError, ConfigError
from puma_cli.pruning.planning.budget import largest_within
from puma_cli.pruning.planning.plan import make_plan
from tests.pruning.headers import plain_decoder, qwen2_vl_7b, sparse_checkpoint


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose layers differ in size, as those of mixtures of experts do."""
    shapes = plain_decoder(6)
    for layer in (1, 4):
        shapes[f"model.layers.{layer}.experts.weight"] = (8, 8, 8)
    shapes["lm_head.weight"] = (16, 8)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 6,
        "torch_dtype": "float32",
    }
    folder = tmp_path_factory.mktemp("uneven") / "model"
    return sparse_checkpoint(folder, config, shapes, "F32")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    budget=st.integers(1, 9000),
    bytes_meant=st.booleans(),
    keep_last=st.booleans(),
    options=st.sampled_from([{}, {"head": "keep"}, {"dtype": "float16"}]),
)
def test_the_most_layers_that_fit_are_found(
    uneven: Path, budget: int, bytes_meant: bool, keep_last: bool, options: dict[str, Any]
) -> None:
    """Against trying every number of layers."""
    fitting = []
    for keep in range(2 if keep_last else 1, 7):
        layers = (*range(keep - 1), 5) if keep_last else tuple(range(keep))
        plan = make_plan(uneven, layers, **options)
        if (plan.bytes_after if bytes_meant else plan.parameters[1]) <= budget:
            fitting.append(layers)
    bound: dict[str, Any] = {"size" if bytes_meant else "parameters": budget}
    if fitting:
        assert largest_within(uneven, keep_last=keep_last, **bound, **options) == fitting[-1]
    else:
        with pytest.raises(ConfigError, match="is too small"):
            largest_within(uneven, keep_last=keep_last, **bound, **options)


def test_too_small_a_budget_says_what_one_layer_takes(uneven: Path) -> None:
    with pytest.raises(ConfigError, match=r"With one layer the model has 200 parameters in 800 B"):
        largest_within(uneven, parameters=199)
    with pytest.raises(ConfigError, match="No budget"):
        largest_within(uneven)
    assert largest_within(uneven, parameters=200, size=10**6) == (0,)
    assert largest_within(uneven, parameters=10**9) == tuple(range(6))


def test_what_the_architecture_refuses_is_passed_over(tmp_path: Path) -> None:
    text = {"num_hidden_layers": 12, "hidden_size_per_layer_input": 0}
    shapes = plain_decoder(12, "model.language_model.")
    folder = sparse_checkpoint(tmp_path, {"model_type": "gemma4", "text_config": text}, shapes)
    nine = make_plan(folder, range(12)).parameters[0] - 3 * 64
    assert largest_within(folder, parameters=nine) == tuple(range(6))
    with pytest.raises(CheckpointError, match="Layer 4 cannot become the last one"):
        largest_within(folder, parameters=nine - 4 * 64)


def test_qwen2_vl_7b_has_the_papers_numbers(tmp_path: Path) -> None:
    folder = qwen2_vl_7b(tmp_path)
    with_head = make_plan(folder, range(12), head="keep")
    assert [round(number / 1e9, 2) for number in with_head.parameters] == [8.29, 4.56]
    without = make_plan(folder, range(12))
    assert [drop.entry.name for drop in without.dropped if "head" in drop.reason] == [
        "lm_head.weight"
    ]
    assert round(without.parameters[1] / 1e9, 2) == 4.02
    head = without.parameters_before["LM head"]
    assert round((without.parameters[0] - head) / 1e9, 2) == 7.75
    assert largest_within(folder, parameters=parse_count("4.1B")) == tuple(range(12))
    assert largest_within(folder, size=parse_size("8.1GB")) == tuple(range(12))

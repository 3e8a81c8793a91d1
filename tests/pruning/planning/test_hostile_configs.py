"""Whatever stands in a config, planning ends in a plan or in a sentence for the user."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puma_cli.errors import PumaError
from puma_cli.pruning.planning.budget import largest_within
from puma_cli.pruning.planning.plan import make_plan
from tests.pruning.headers import plain_decoder, sparse_checkpoint

DEPTH = 6
TEXT: dict[str, Any] = {
    "model_type": "qwen2",
    "num_hidden_layers": DEPTH,
    "layer_types": ["full_attention", "sliding_attention"] * 3,
    "max_window_layers": 3,
    "tie_word_embeddings": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"text_config": {**TEXT, "model_type": "qwen2_vl_text"}},
    "qwen3_vl_moe": {
        "text_config": {
            "num_hidden_layers": DEPTH,
            "mlp_only_layers": [1],
            "decoder_sparse_step": 1,
        },
        "vision_config": {"deepstack_visual_indexes": [1, 2]},
    },
    "gemma3": {"text_config": {"num_hidden_layers": DEPTH, "sliding_window_pattern": 2}},
    "gemma4": {
        "text_config": {
            "num_hidden_layers": DEPTH,
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
            "per_layer_config": {"5": {}},
        }
    },
    "mllama": {"text_config": {"num_hidden_layers": DEPTH, "cross_attention_layers": [1, 4]}},
    "llama4": {
        "text_config": {
            "num_hidden_layers": DEPTH,
            "no_rope_layers": [1] * DEPTH,
            "moe_layers": [1, 3],
            "interleave_moe_layer_step": 2,
        }
    },
    "glm4v_moe": {
        "text_config": {
            "num_hidden_layers": DEPTH,
            "first_k_dense_replace": 1,
            "num_nextn_predict_layers": 1,
        }
    },
    "nobody": {**TEXT, "first_k_dense_replace": 2, "num_kv_shared_layers": 0},
    "llava": {"text_config": TEXT, "quantization_config": {"ignore": ["model.layers.1.mlp"]}},
}
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["model.layers.1", "layers.(1", "qwen2", "float16", [1] * DEPTH]),
    lambda inner: (
        st.lists(inner, max_size=DEPTH)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["1", "layers.2"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = {**plain_decoder(DEPTH), "lm_head.weight": (16, 8)}
    return sparse_checkpoint(tmp_path_factory.mktemp("hostile") / "model", {}, shapes)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), name=st.sampled_from(sorted(CONFIGS)), value=VALUES)
def test_any_value_of_any_field_ends_in_a_plan_or_a_sentence(
    folder: Path, data: Any, name: str, value: Any
) -> None:
    config: dict[str, Any] = copy.deepcopy(CONFIGS[name])
    config |= {"model_type": name, "architectures": ["XForCausalLM"], "torch_dtype": "bfloat16"}
    target = config
    inner = [key for key, item in config.items() if isinstance(item, dict)]
    if inner and data.draw(st.booleans()):
        target = config[data.draw(st.sampled_from(inner))]
    target[data.draw(st.sampled_from([*sorted(target), "x_layers", "quantization_config"]))] = value
    (folder / "config.json").write_text(json.dumps(config))
    kept = data.draw(st.sampled_from([(0,), (0, 1, 2), (0, 1, 5), tuple(range(DEPTH))]))
    dtype = data.draw(st.sampled_from(["auto", "float16"]))
    try:
        plan = make_plan(folder, kept, dtype=dtype)
        largest_within(folder, size=10**9)
    except PumaError:
        return
    assert json.loads(json.dumps(plan.config)) == plan.config
    assert json.dumps(plan.summary())
    layers = {move.name.split(".")[2] for move in plan.moves if ".layers." in move.name}
    assert layers == {str(slot) for slot in range(len(kept))}

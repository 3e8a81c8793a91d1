"""Which values each setting may take, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from puma_cli.config.suggestion import did_you_mean
from puma_cli.errors import ConfigError


@dataclass(frozen=True)
class _Range:
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def __call__(self, value: Any) -> str:
        too_low = self.low is not None and (
            value <= self.low if self.open_low else value < self.low
        )
        too_high = self.high is not None and (
            value >= self.high if self.open_high else value > self.high
        )
        return str(self) if too_low or too_high else ""

    def __str__(self) -> str:
        parts = []
        if self.low is not None:
            parts.append(f"{'more than' if self.open_low else 'at least'} {self.low:g}")
        if self.high is not None:
            parts.append(f"{'less than' if self.open_high else 'at most'} {self.high:g}")
        return "must be " + " and ".join(parts)


@dataclass(frozen=True)
class _OneOf:
    choices: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        items = value if isinstance(value, tuple) else (value,)
        if not items:
            return "must not be empty"
        wrong = [item for item in items if item not in self.choices]
        return f"must be one of {', '.join(self.choices)}" if wrong else ""

    def suggest(self, value: Any) -> str:
        """Return the choice that `value` may have meant, as a question."""
        items = value if isinstance(value, tuple) else (value,)
        return " ".join(did_you_mean(item, self.choices) for item in items).strip()


@dataclass(frozen=True)
class _NoneOr:
    """A range, or 0 for doing without."""

    rule: _Range

    def __call__(self, value: Any) -> str:
        complaint = self.rule(value) if value else ""
        return f"{complaint}, or 0 for none" if complaint else ""


@dataclass(frozen=True)
class _Each:
    """A rule for every one of several values."""

    rule: _Range

    def __call__(self, value: Any) -> str:
        return next((f"{each:g} {self.rule(each)}" for each in value if self.rule(each)), "")


_POSITIVE = _Range(low=0, open_low=True)
_NOT_NEGATIVE = _Range(low=0)
_COUNT = _Range(low=1)
_SPLITS = _OneOf(("val", "test"))
_COSINE = _Range(low=-1, high=1)
# Those that accelerate knows, under its names.
_TRACKERS = (
    "auto",
    "none",
    "tensorboard",
    "wandb",
    "trackio",
    "comet_ml",
    "aim",
    "mlflow",
    "clearml",
    "dvclive",
    "swanlab",
)
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
_ROWS = _NoneOr(_Range(low=20))
_DTYPES = ("auto", "float32", "float16", "bfloat16")
# Half precision with the range of float32.
_WIDE = ("auto", "float32", "bfloat16")

# Keyed by the settings class's name and the field: classes differ in what a name may mean.
_SHARED: dict[str, Callable[[Any], str]] = {
    "limit": _COUNT,
    "batch_size": _COUNT,
    "dtype": _OneOf(_DTYPES),
    "seed": _Range(low=0, high=2**32 - 1),
    "split": _SPLITS,
    "target_retention": _Range(low=0, high=1, open_low=True),
    "max_latency": _POSITIVE,
    "keep": _COUNT,
    "k": _COUNT,
    "pools": _OneOf(("local", "union")),
    "stop_after": _POSITIVE,
}
_OWN: dict[str, dict[str, Callable[[Any], str]]] = {
    "AnalyzeSettings": {"samples": _COUNT, "pool_size": _COUNT, "bridge_rows": _ROWS},
    "PruneSettings": {
        "verify": _OneOf(("auto", "full", "keys", "none")),
        "head": _OneOf(("auto", "keep", "drop")),
        "bridge_rows": _Range(low=20),
    },
    "ExportSettings": {
        "format": _OneOf(("transformers", "sentence-transformers", "vllm", "all")),
        "dimensions": _COUNT,
    },
    "EvaluateSettings": {
        "instruction": _OneOf(("first", "seeded")),
        "batch_tokens": _NOT_NEGATIVE,
        "image_workers": _Range(low=-1),
        "attention": _OneOf(ATTENTIONS),
        "store_dtype": _OneOf(_DTYPES),
        "layout": _OneOf(("auto", "mbeir", "mmeb", "pairs")),
        "unanswerable": _OneOf(("error", "zero")),
        "bad_rows": _OneOf(("error", "skip")),
        "bad_images": _OneOf(("error", "skip")),
        "hubness_penalty": _Range(low=0),
        "search": _OneOf(("torch", "faiss")),
    },
    "BenchSettings": {
        "image_side": _Range(low=28),
        "inputs": _COUNT,
        "alone": _COUNT,
        "rounds": _COUNT,
        "warmup": _NOT_NEGATIVE,
        "batch_tokens": _NOT_NEGATIVE,
        "attention": _OneOf(ATTENTIONS),
        "price_per_hour": _NOT_NEGATIVE,
        "pool": _OneOf(("local", "union")),
    },
    "EmbedSettings": {
        "side": _OneOf(("document", "query")),
        "format": _OneOf(("npy", "safetensors", "parquet", "lancedb")),
        "dimensions": _COUNT,
        "store_dtype": _OneOf(("float32", "float16", "int8")),
        "shard_rows": _COUNT,
        "engine": _OneOf(("local", "ray")),
        "workers": _NOT_NEGATIVE,
        "cpus_per_worker": _NOT_NEGATIVE,
        "batch_tokens": _NOT_NEGATIVE,
        "image_workers": _Range(low=-1),
        "attention": _OneOf(ATTENTIONS),
    },
    "SearchSettings": {"top_k": _COUNT, "attention": _OneOf(ATTENTIONS)},
    "MineSettings": {
        "negatives": _COUNT,
        "pool": _OneOf(("task", "union")),
        "relative_margin": _Range(low=0, high=1, open_low=True),
        "max_score": _COSINE,
        "min_score": _COSINE,
        "skip": _NOT_NEGATIVE,
        "depth": _COUNT,
        "instruction": _OneOf(("first", "seeded")),
    },
    "BatchSettings": {
        "balance": _Range(low=0, high=1),
        "max_pixels": _COUNT,
        "size": _Range(low=2),
        "grouping": _OneOf(("mixed", "query", "task")),
        "negatives": _NOT_NEGATIVE,
        "chunk_tokens": _COUNT,
        "chunk_pixels": _COUNT,
        "accumulate": _COUNT,
        "bad_images": _OneOf(("error", "skip")),
        "instruction": _OneOf(("first", "seeded")),
    },
    "PairsSettings": {
        "incomplete": _OneOf(("refuse", "skip")),
        "validation": _NOT_NEGATIVE,
        "validation_pool": _COUNT,
    },
    "LossSettings": {
        "contrastive": _OneOf(("info_nce", "mac")),
        "contrastive_weight": _NOT_NEGATIVE,
        "temperature": _POSITIVE,
        "decay": _NOT_NEGATIVE,
        "mse": _NOT_NEGATIVE,
        "cosine": _NOT_NEGATIVE,
        "similarity": _NOT_NEGATIVE,
        "gram": _NOT_NEGATIVE,
        "bank": _NOT_NEGATIVE,
        "bank_size": _Range(low=2),
        "hints": _NOT_NEGATIVE,
        "hint_depths": _Each(_COUNT),
        "projection": _OneOf(("none", "ridge", "learned")),
        "temperatures": _Each(_POSITIVE),
        "dimensions": _Each(_COUNT),
        "false_negative_margin": _Range(low=-2, high=2),
    },
    "LoraSettings": {
        "rank": _NOT_NEGATIVE,
        "alpha": _COUNT,
        "dropout": _Range(low=0, high=1, open_high=True),
        "quantize": _OneOf(("none", "nf4")),
        "base_dtype": _OneOf(_WIDE),
    },
    "OptimizerSettings": {
        "learning_rate": _POSITIVE,
        "first_layer_scale": _NOT_NEGATIVE,
        "layer_decay": _Range(low=0, high=1, open_low=True),
        "warmup": _Range(low=0, high=1, open_high=True),
        "floor": _Range(low=0, high=1),
        "beta1": _Range(low=0, high=1, open_high=True),
        "beta2": _Range(low=0, high=1, open_high=True),
        "eps": _POSITIVE,
        "weight_decay": _NOT_NEGATIVE,
        "clip": _POSITIVE,
    },
    "TrainSettings": {
        "steps": _COUNT,
        "epochs": _POSITIVE,
        "validate_every": _COUNT,
        "validation_limit": _Range(low=0),
        "save_dtype": _OneOf(_DTYPES),
        "cache_dtype": _OneOf(("float32", "float16", "bfloat16")),
        "teacher_dtype": _OneOf(_WIDE),
        "encode_batch": _COUNT,
        "save_every": _COUNT,
        "save_minutes": _POSITIVE,
        "keep_states": _COUNT,
        "strategy": _OneOf(("ddp", "fsdp2")),
        "loss_limit": _Range(low=1, open_low=True),
        "trackers": _OneOf(_TRACKERS),
    },
    "FreshSettings": {
        "vocabulary": _Range(low=300),
        **dict.fromkeys(
            (
                "hidden_size",
                "layers",
                "heads",
                "key_value_heads",
                "intermediate_size",
                "vision_size",
                "vision_layers",
                "vision_heads",
                "patch_size",
                "merge_size",
                "image_size",
            ),
            _COUNT,
        ),
    },
}


def check_settings(settings: Any, prefix: str = "") -> None:
    """Refuse settings with a value outside its legal range.

    Raises:
        ConfigError: names the setting, the value and the range.
    """
    own = _OWN.get(type(settings).__name__, {})
    for field in fields(settings):
        value = getattr(settings, field.name)
        name = prefix + field.name
        if is_dataclass(value):
            check_settings(value, f"{name}.")
            continue
        rule = own.get(field.name) or _SHARED.get(field.name)
        complaint = rule(value) if rule is not None and value is not None else ""
        if complaint:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            hint = rule.suggest(value) if isinstance(rule, _OneOf) else ""
            raise ConfigError(f"{name} = {shown} is not possible: it {complaint}.", hint=hint)

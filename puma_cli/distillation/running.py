"""How a training computes: number formats, and what trades memory or start-up for speed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from puma_cli.config.lora_settings import NF4, UNQUANTIZED
from puma_cli.config.training_settings import AUTO, DistillSettings, TrainSettings
from puma_cli.distillation.checks import is_mixed
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.trackers import accelerator_options
from puma_cli.errors import ConfigError
from puma_cli.models.devices import choose_device
from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load


def open_student(model: str | Path, settings: DistillSettings) -> Embedder:
    """Open a student, its weights in the format that they train in or stay in.

    Raises:
        ConfigError: 4-bit weights are asked for, and cannot be had here.
    """
    return _open(model, settings, base_dtype(settings), settings.lora.quantize)


def open_teacher(settings: DistillSettings) -> Embedder:
    """Open the teacher."""
    return _open(settings.teacher, settings, teacher_dtype(settings), UNQUANTIZED)


def original_of(model: str | Path, settings: DistillSettings) -> Callable[[], Embedder] | None:
    """Return what opens a student in full precision, if it does not train in that."""
    if settings.lora.quantize == UNQUANTIZED and base_dtype(settings) == "float32":
        return None
    return lambda: load(model, "cpu", "float32")


def base_dtype(settings: DistillSettings) -> str:
    """Return the number format of a student's weights, but for adapters and what else trains."""
    lora = settings.lora
    if lora.base_dtype != AUTO:
        return lora.base_dtype
    on_gpu = choose_device(settings.device).type == "cuda"
    return "bfloat16" if lora.quantize == NF4 and on_gpu else "float32"


def teacher_dtype(settings: DistillSettings) -> str:
    """Return the number format of a teacher's weights.

    One copy can serve student and teacher in one format only.
    """
    if settings.train.teacher_dtype != AUTO:
        return settings.train.teacher_dtype
    return "float32" if settings.train.cache_teacher else base_dtype(settings)


def _open(model: str | Path, settings: DistillSettings, dtype: str, quantize: str) -> Embedder:
    embedder = load(model, settings.device, dtype, quantize)
    if settings.batch.max_pixels is not None:
        embedder.limit_pixels(settings.batch.max_pixels)
    embedder.processor.images.stands_in = settings.batch.bad_images == "skip"
    return embedder


def start(settings: DistillSettings, device: torch.device, trackers: list[str]) -> Any:
    """Return the accelerator of a training.

    Args:
        trackers: where the log's numbers go besides, from `choose_trackers`.

    Raises:
        ConfigError: the number format cannot be trained in, or the launcher asks for a strategy
            that is not its own to choose.
    """
    from accelerate import Accelerator

    for name, value in (("FSDP", "fsdp2"), ("DEEPSPEED", None)):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("true", "1"):
            raise ConfigError(
                f"accelerate was configured for {name}.",
                cause="What processes hold is a setting of the training, as it decides what fits.",
                hint=f"Launch without it, and set train.strategy={value or 'fsdp2'}.",
            )
    if settings.train.deterministic and device.type == "cuda":
        # cuBLAS reads it when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    mixed = is_mixed(settings.dtype, device.type)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if mixed else "no",
        **accelerator_options(trackers, settings.output_dir),
    )


def speed_up(pair: Pair, train: TrainSettings) -> None:
    """Set up what trades memory for time, and a slow start for fast steps."""
    if train.checkpoint_activations:
        model = pair.embedder.model
        # Newer versions of transformers warn of the second name.
        new = getattr(model, "activation_checkpointing_enable", None)
        (new or model.gradient_checkpointing_enable)({"use_reentrant": False})
    if train.compile:
        for layer in pair.embedder.decoder.layers:
            # Batches differ in length: one program for all of them.
            layer.compile(dynamic=True)

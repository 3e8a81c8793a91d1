"""Devices, memory, disk, and what of the environment steers a run."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from puma_cli.diagnosis.findings import BAD, Finding
from puma_cli.pruning.proof.free_memory import free_memory
from puma_cli.report.numbers import size_on_disk

# Below this, the checkpoint of a model of some billion parameters does not fit.
_LITTLE_DISK = 5_000_000_000
# Variables that change what puma does, and are easily forgotten.
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "HF_HUB_OFFLINE",
    "HF_HOME",
    "OMP_NUM_THREADS",
    "PUMA_CACHE",
    "PYTORCH_CUDA_ALLOC_CONF",
    "WORLD_SIZE",
)


def examine_machine(
    environment: Mapping[str, str] = os.environ, driver: Path = Path("/proc/driver/nvidia/version")
) -> Iterator[Finding]:
    """Yield the devices, memory, disk and environment of this machine.

    Args:
        environment: variables by name.
        driver: a file that is there where a driver for NVIDIA GPUs is loaded.
    """
    yield Finding("machine", "system", f"{platform.system()} {platform.machine()}")
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    yield Finding("machine", "processor", f"{cores} cores, {threads} threads in use by torch")
    yield Finding("machine", "memory free", size_on_disk(free_memory()))
    yield from examine_gpus(driver)
    yield from _disks()
    for name in _VARIABLES:
        if name in environment:
            yield Finding("machine", name, environment[name])


def examine_gpus(driver: Path) -> Iterator[Finding]:
    """Yield the GPUs that torch sees, or say why it sees none."""
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            seen = torch.cuda.get_device_properties(number)
            kinds = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
            yield Finding(
                "machine",
                f"cuda:{number}",
                f"{seen.name}, {size_on_disk(seen.total_memory)}, {kinds}, "
                f"CUDA {torch.version.cuda}",
            )
    elif torch.backends.mps.is_available():
        yield Finding("machine", "mps", "Apple GPU")
    elif driver.exists():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
        yield Finding(
            "machine",
            "GPU",
            "not usable",
            BAD,
            f"There is a driver for NVIDIA GPUs, but torch {torch.__version__}, built for "
            f"{built}, sees none.",
            "Install a build of torch for the driver's CUDA, and look at CUDA_VISIBLE_DEVICES.",
        )
    else:
        yield Finding("machine", "GPU", "none")


def _disks() -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    for name, folder in (("here", Path.cwd()), ("hub cache", Path(HF_HUB_CACHE))):
        yield examine_disk(f"disk free, {name}", folder)


def examine_disk(name: str, folder: Path) -> Finding:
    """Return what is free where a folder is, or will be."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    value = f"{size_on_disk(free)} ({folder})"
    if not os.access(place, os.W_OK):
        problem = f"{place} cannot be written to."
        return Finding("machine", name, value, BAD, problem, "Check its rights.")
    if free < _LITTLE_DISK:
        problem = f"Only {size_on_disk(free)} are free for {folder}."
        return Finding("machine", name, value, BAD, problem, "Make room before fetching a model.")
    return Finding("machine", name, value)

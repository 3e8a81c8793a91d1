"""Which device and number format a computation runs on."""

from __future__ import annotations

import platform

import torch

from puma_cli.errors import ConfigError, DeviceError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; `auto` takes the first of CUDA, MPS and CPU that is there.

    Raises:
        DeviceError: the device is unknown or absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"{name!r} is no device.", hint="Use auto, cpu, cuda, cuda:N or mps."
        ) from error
    absent = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if absent:
        raise DeviceError(
            f"The device {name!r} is not there.",
            cause=f"torch {torch.__version__} sees no {device.type} device on this machine.",
            hint="Use --device auto or --device cpu.",
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype called `name`; `auto` is bfloat16 on CUDA and float32 elsewhere.

    Raises:
        ConfigError: the dtype is unknown.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"{name!r} is no dtype.", hint=f"Use auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def name_device(device: torch.device) -> str:
    """Return a device's name as a report gives it."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{device.type} ({platform.machine()}{threads})"

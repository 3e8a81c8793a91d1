"""Proof by names: the cut checkpoint holds the weights that its class wants, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puma_cli.errors import VerificationError
from puma_cli.models.quiet import quiet_transformers
from puma_cli.pruning.proof.stock_model import (
    KeyReport,
    does_not_open,
    key_report,
    named_class,
    read_transformers_config,
    stored_tensors,
)


def check_keys(
    folder: Path, *, parent: Path | None = None, trust_remote_code: bool = False
) -> None:
    """Check that the class a folder names finds every weight it wants, of its shape, and no other.

    Nothing but headers is read: weights and model are on the meta device, and transformers' own
    loader does the renaming between the names on disk and those in memory.

    Args:
        folder: a checkpoint whose weight files are all there.
        parent: the checkpoint it was cut from. Weights that its own class does not want either are
            let pass; without it, none are.
        trust_remote_code: whether the checkpoint's own Python code may run.

    Raises:
        VerificationError: it does not.
    """
    report = report_keys(folder, trust_remote_code=trust_remote_code)
    unexpected = report.unexpected
    if unexpected and parent is not None:
        idle = set(report_keys(parent, trust_remote_code=trust_remote_code).unexpected)
        unexpected = tuple(name for name in unexpected if name not in idle)
    for problem, names in (
        ("lacks the weight", report.missing),
        ("has the unexpected weight", unexpected),
        ("has a misshapen weight", report.misshapen),
    ):
        if names:
            raise VerificationError(
                f"The cut checkpoint {problem} `{names[0]}`.",
                cause=f"{len(names)} such weights. The parent's weights are named in a way that "
                "its class does not read in full, or the cut is wrong.",
                hint="Check that the parent loads without a warning, or save it again with "
                "transformers and cut that.",
            )


def report_keys(folder: Path, *, trust_remote_code: bool = False) -> KeyReport:
    """Return how the weights of a folder fit the class that its config names.

    Raises:
        VerificationError: transformers does not open it at all.
    """
    config = read_transformers_config(folder, trust_remote_code=trust_remote_code)
    cls = named_class(config, trust_remote_code=trust_remote_code)
    tensors = stored_tensors(folder, _on_meta)
    with quiet_transformers():
        try:
            _, report = cls.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except Exception as error:
            raise does_not_open(folder, error) from error
    return key_report(report)


def _on_meta(opened: Any, name: str) -> Any:
    import torch

    stored = opened.get_slice(name)
    # The loader asks for sizes only, so one byte an element stands for every dtype.
    return torch.empty(stored.get_shape(), dtype=torch.bfloat16, device="meta")

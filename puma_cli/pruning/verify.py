"""Proof that a cut checkpoint opens everywhere and computes what its parent computes there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from puma_cli.errors import VerificationError
from puma_cli.models.quiet import quiet_transformers

if TYPE_CHECKING:
    import torch

    from puma_cli.models.inputs import Input

# Both sides run the same operations on the same bytes; only their order may differ.
TOLERANCE = 1e-5
HALF_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Parity:
    """How closely the cut model follows its parent.

    Args:
        difference: largest |cut - parent| over the probes, relative to the parent's largest value.
        tolerance: the largest difference that passes.
        probes: number of inputs compared.
        reference: what the parent computed: `norm(h[k])`, or its decoder cut in memory.
    """

    difference: float
    tolerance: float
    probes: int
    reference: str


def check_keys(folder: Path) -> None:
    """Check that `AutoModel` finds every weight it wants in `folder`, of its shape, and no other.

    Raises:
        VerificationError: it does not.
    """
    from transformers import AutoModel

    with quiet_transformers():
        try:
            _, report = AutoModel.from_pretrained(
                folder, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
            )
        except Exception as error:
            raise VerificationError(
                "The cut checkpoint does not open with transformers.",
                cause=f"{type(error).__name__}: {error}",
                hint="Check that the parent opens with AutoModel.",
            ) from error
    for problem, keys in (
        ("lacks the weight", report["missing_keys"]),
        ("has the unexpected weight", report["unexpected_keys"]),
        ("has a misshapen weight", report["mismatched_keys"]),
    ):
        if keys:
            raise VerificationError(
                f"The cut checkpoint {problem} `{sorted(map(str, keys))[0]}`.",
                cause=f"{len(keys)} such weights. The parent's weights are named in a way that "
                "AutoModel does not read in full.",
                hint="Save the parent again with transformers, then cut that.",
            )


def check_parity(
    parent: Path, folder: Path, kept: Sequence[int], device: str = "cpu", dtype: str = "auto"
) -> Parity:
    """Compare the cut model's embeddings with its parent's at the same layers, on a few probes.

    For first layers the parent runs whole and `norm(h[k])` is read from it; otherwise it runs with
    its own layers cut in memory. One model is in memory at a time.

    Raises:
        VerificationError: the embeddings differ.
    """
    import torch

    from puma_cli.models.embedder import load

    prefix = list(kept) == list(range(len(kept)))
    with TemporaryDirectory() as scratch, quiet_transformers():
        probes = _probes(Path(scratch))
        whole: Any = load(parent, device=device, dtype=dtype)
        with torch.inference_mode():
            batch = whole.collate(probes).to(whole.device)
            if prefix:
                expected = whole.read_out(whole.hidden_states(batch)[len(kept)])
            else:
                with whole.layers(kept):
                    expected = whole.embed(batch)
        expected = expected.float().cpu()
        del whole, batch
        cut: Any = load(folder, device=device, dtype=dtype)
        with torch.inference_mode():
            found = cut.embed(cut.collate(probes).to(cut.device))
        half = found.dtype != torch.float32
    difference = _difference(found.float().cpu(), expected)
    parity = Parity(
        difference=difference,
        tolerance=HALF_TOLERANCE if half else TOLERANCE,
        probes=len(probes),
        reference=f"norm(h[{len(kept)}])" if prefix else "the parent cut in memory",
    )
    # Written so that a difference that is no number fails too.
    if not difference <= parity.tolerance:
        raise VerificationError(
            f"The cut model differs from {parity.reference} of its parent by {difference:.3g}.",
            cause=f"At most {parity.tolerance:g} is rounding; the cut computes something else.",
            hint="Nothing was written. Please report it with the parent's config.json.",
        )
    return parity


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _probes(folder: Path) -> list[Input]:
    """Return a text, an image and both, with and without an instruction."""
    from PIL import Image

    from puma_cli.models.inputs import Input

    path = folder / "probe.png"
    size = 64
    pixels = bytes(
        (x * y + 40 * c) % 256 for y in range(size) for x in range(size) for c in range(3)
    )
    Image.frombytes("RGB", (size, size), pixels).save(path)
    return [
        Input(text="A red square above a small blue circle."),
        Input(text="two", instruction="Find a picture that matches the text."),
        Input(image=path),
        Input(text="Make the circle green.", image=path, instruction="Find the changed picture."),
    ]

"""Proof by computing: the cut checkpoint gives what its parent gives at the same layers.

The parent's side is stock transformers on the parent's own files and config. It shares nothing
with the plan of the cut, neither how names are read nor how the config is edited, so that an error
there cannot be on both sides.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puma_cli.errors import VerificationError
from puma_cli.pruning.proof.free_memory import free_memory
from puma_cli.pruning.proof.image_kinds import image_kind, reads_images
from puma_cli.pruning.proof.probes import Probe, make_probes
from puma_cli.pruning.proof.stock_model import (
    base_class,
    decoder_layers,
    does_not_open,
    load_stock,
    named_class,
    read_transformers_config,
    stored_tensors,
)

if TYPE_CHECKING:
    import torch

# The same operations on the same bytes give the same bits, unless sums are taken in another order.
# That much of a difference is rounding in float32; where a cast rounded the cut's own weights, the
# second.
TOLERANCE = 1e-5
CAST_TOLERANCE = 1e-2
# Beside the weights: the interpreter with torch and transformers, and what a forward pass makes.
_OVERHEAD = 1_000_000_000
_MARGIN = 1.1
# Fields that bound how far some layers look back, and a bound that the probes are longer than.
_WINDOWS = ("sliding_window", "attention_chunk_size")
_SHORT_WINDOW = 8


@dataclass(frozen=True)
class Parity:
    """How closely the cut model follows its parent.

    Args:
        difference: largest |cut - parent| over all probes and positions, relative to the parent's
            largest value.
        bit_equal: whether no bit differs.
        dtype: in which both were computed, such as `bfloat16`.
        probes: names of the inputs compared: `text`, `image`, `image+text`.
        reference: what the parent computed: `norm(h[k])`, or its layers skipped in memory.
        note: what a reader must know, such as why images were not compared; else empty.
    """

    difference: float
    bit_equal: bool
    dtype: str
    probes: tuple[str, ...]
    reference: str
    note: str

    @property
    def verdict(self) -> str:
        """How the two compare, in words."""
        return "bit-equal" if self.bit_equal else f"largest difference {self.difference:.1e}"


def memory_needed(folder: Path) -> int:
    """Return about how many bytes of memory the proof takes for the cut checkpoint in `folder`."""
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return int(weights * _MARGIN) + _OVERHEAD


def fits_memory(needed: int) -> bool:
    """Return whether that many bytes of memory are free now."""
    return needed <= free_memory()


def check_parity(
    parent: Path,
    folder: Path,
    kept: Sequence[int],
    *,
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> Parity:
    """Compare what the cut model and its parent make of a text, an image and both.

    Of the parent only the layers in `kept` are loaded. One model is in memory at a time.

    Args:
        parent: the untouched checkpoint; weight files without any kept tensor may be absent.
        folder: the cut checkpoint.
        kept: ascending indices of the parent's layers that the cut has.
        device: where to compute, as `--device` names it.
        trust_remote_code: whether the checkpoints' own Python code may run.

    Raises:
        DeviceError: the device is absent.
        VerificationError: they differ, or one of them does not open.
    """
    from puma_cli.models.devices import choose_device

    device = str(choose_device(device))
    config = read_transformers_config(parent, trust_remote_code=trust_remote_code)
    probes = make_probes(config)
    sides = _Sides(device, trust_remote_code)
    notes = [_unprobed(config)]
    dtype = _dtype(folder)
    expected, found = sides.both(parent, folder, probes, dtype, kept)
    equal = _equal(expected, found)
    tolerance = TOLERANCE
    if dtype.itemsize == 2 and not (equal and _all_finite(expected)):
        # Half precision can overflow whatever the cut, and its rounding would hide a wrong cut:
        # what is not equal in it must agree in a wider range.
        import torch

        overflow = "the parent's values overflow" if not _all_finite(expected) else "not bit-equal"
        notes.append(f"compared in float32: {overflow} in {_name(dtype)}")
        tolerance = CAST_TOLERANCE if _dtype(parent) != dtype else TOLERANCE
        dtype = torch.float32
        expected, found = sides.both(parent, folder, probes, dtype, kept)
        equal = _equal(expected, found)
    if not _all_finite(expected):
        raise VerificationError(
            f"The parent `{parent.name}` computes values that are not finite.",
            cause=f"In {_name(dtype)}, on inputs made up from its config.",
            hint="Nothing can be compared then; check the names alone with --verify keys.",
        )
    first = list(kept) == list(range(len(kept)))
    reference = f"norm(h[{len(kept)}])" if first else "the parent with layers skipped in memory"
    difference = 0.0 if equal else _difference(expected, found)
    # Written so that a difference that is no number fails too.
    if not difference <= tolerance:
        raise VerificationError(
            f"The cut model differs from {reference} of its parent by {difference:.3g}.",
            cause=f"At most {tolerance:g} is rounding; the cut computes something else.",
            hint="Nothing was written. Please report it with the parent's config.json.",
        )
    if not equal and tolerance == TOLERANCE:
        notes.append(f"not bit-equal: sums are taken in another order on {device}")
    return Parity(
        difference=difference,
        bit_equal=equal,
        dtype=_name(dtype),
        probes=tuple(probe.name for probe in probes),
        reference=reference,
        note="; ".join(note for note in notes if note),
    )


@dataclass(frozen=True)
class _Sides:
    """How both models are opened and run."""

    device: str
    trust_remote_code: bool

    def both(
        self,
        parent: Path,
        folder: Path,
        probes: Sequence[Probe],
        dtype: torch.dtype,
        kept: Sequence[int],
    ) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        """Return what the parent at its layers `kept` and the cut make of the probes."""
        return self.run(parent, probes, dtype, kept), self.run(folder, probes, dtype, None)

    def run(
        self,
        folder: Path,
        probes: Sequence[Probe],
        dtype: torch.dtype,
        kept: Sequence[int] | None,
    ) -> list[torch.Tensor]:
        """Return a checkpoint's last hidden states (T, D) of each probe."""
        model = self._open(folder, dtype, kept)
        try:
            return [_last_hidden_states(model, probe) for probe in probes]
        except Exception as error:
            raise does_not_open(folder, error) from error
        finally:
            # Models refer to themselves; without this two would be in memory at a time.
            del model
            gc.collect()

    def _open(self, folder: Path, dtype: torch.dtype, kept: Sequence[int] | None) -> Any:
        """Return the model by its base class or, where that misses weights, the class it names."""
        trust = self.trust_remote_code
        config = read_transformers_config(folder, trust_remote_code=trust)
        _shorten_windows(config)
        classes = (
            base_class(config, trust_remote_code=trust),
            named_class(config, trust_remote_code=trust),
        )
        for cls in dict.fromkeys(classes):
            model, report = load_stock(
                cls, folder, config, kept=kept, dtype=dtype, device=self.device
            )
            if not report.missing and not report.misshapen:
                return model
            del model
            gc.collect()
        lost = (*report.missing, *report.misshapen)
        raise VerificationError(
            f"The checkpoint `{folder.name}` lacks the weight `{lost[0]}`.",
            cause=f"{len(lost)} weights are missing or misshapen for {cls.__name__}.",
        )


def _shorten_windows(config: Any) -> None:
    """Shorten a model's attention windows in memory so that they show in inputs of a few tokens.

    Of a layer that looks back 4,096 tokens no short input tells whether it should look back further
    or less; with windows shorter than the input, one of the wrong kind computes something else.
    """
    text = config.get_text_config(decoder=True)
    for name in _WINDOWS:
        found = getattr(text, name, None)
        if isinstance(found, int) and found > _SHORT_WINDOW:
            setattr(text, name, _SHORT_WINDOW)


def _last_hidden_states(model: Any, probe: Probe) -> torch.Tensor:
    import torch

    taken: list[Any] = []

    def take(module: Any, args: Any, output: Any) -> None:
        taken.append(output[0])

    inputs = {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in probe.inputs.items()
    }
    # At the decoder: the base class of some families is one with an LM head.
    handle = decoder_layers(model)[0].register_forward_hook(take)
    try:
        with torch.inference_mode():
            model(**inputs, use_cache=False)
    finally:
        handle.remove()
    states: torch.Tensor = taken[-1][0].cpu()
    return states


def _dtype(folder: Path) -> torch.dtype:
    """Return the dtype of most of a folder's weights, float32 if they are no floats."""
    import torch

    sizes: Counter[torch.dtype] = Counter()
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    kinds["F64"] = torch.float64
    for shape, name in stored_tensors(folder, _shape_and_dtype).values():
        if name in kinds:
            sizes[kinds[name]] += torch.Size(shape).numel()
    return sizes.most_common(1)[0][0] if sizes else torch.float32


def _shape_and_dtype(opened: Any, name: str) -> tuple[list[int], str]:
    stored = opened.get_slice(name)
    return stored.get_shape(), stored.get_dtype()


def _unprobed(config: Any) -> str:
    if reads_images(config) and image_kind(config) is None:
        return f"images not compared: how they enter a `{config.model_type}` is not known here"
    return ""


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _all_finite(states: Sequence[torch.Tensor]) -> bool:
    import torch

    return all(bool(torch.isfinite(state).all()) for state in states)


def _equal(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> bool:
    return all(_same_bits(a, b) for a, b in zip(expected, found, strict=True))


def _same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    import torch

    return (
        first.shape == second.shape
        and bool(torch.isfinite(first).all())
        and bool(torch.equal(first, second))
    )


def _difference(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    if any(a.shape != b.shape for a, b in zip(expected, found, strict=True)):
        return float("inf")
    import torch

    gaps = [
        (b.double() - a.double()).abs().max() / a.double().abs().max()
        for a, b in zip(expected, found, strict=True)
    ]
    # Unlike Python's, this maximum is no number if one of them is none.
    return float(torch.stack(gaps).max())

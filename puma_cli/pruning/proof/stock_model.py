"""Opening checkpoints with transformers' own classes and loader, whole or with some layers only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puma_cli.errors import DeviceError, PumaError, VerificationError
from puma_cli.models.quiet import quiet_transformers

if TYPE_CHECKING:
    import torch

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_ALIGNMENT = 64
_PROBLEMS = ("missing_keys", "unexpected_keys", "mismatched_keys")


@dataclass(frozen=True)
class KeyReport:
    """Which names a class wants and does not find, finds and does not want, or finds misshapen."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]


def read_transformers_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return a folder's config as transformers reads it.

    Raises:
        VerificationError: transformers does not read it.
    """
    from transformers import AutoConfig

    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except Exception as error:
            raise does_not_open(folder, error) from error


def does_not_open(folder: Path, error: Exception) -> PumaError:
    """Return the error that says why transformers does not open or run a checkpoint."""
    cause = f"{type(error).__name__}: {error}"
    if _is_lack_of_memory(error):
        return DeviceError(
            f"There is not enough memory to compare `{folder.name}` with its parent.",
            cause=cause,
            hint="Check the names alone with --verify keys, which needs hardly any memory.",
        )
    return VerificationError(
        f"The checkpoint `{folder.name}` does not open with transformers.",
        cause=cause,
        hint="Check that the parent opens with transformers' AutoModel.",
    )


def _is_lack_of_memory(error: Exception) -> bool:
    import torch

    # On a CPU, torch has no type of its own for it.
    said = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


def base_class(config: Any, *, trust_remote_code: bool = False) -> Any:
    """Return the class that `AutoModel` takes for a config.

    Raises:
        VerificationError: it has none.
    """
    from transformers import MODEL_MAPPING
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    custom = (getattr(config, "auto_map", None) or {}).get("AutoModel")
    if custom and trust_remote_code:
        try:
            return get_class_from_dynamic_module(custom, config.name_or_path)
        except Exception as error:
            raise does_not_open(Path(config.name_or_path), error) from error
    found: Any = MODEL_MAPPING.get(type(config), None)
    if found is None:
        raise VerificationError(
            f"AutoModel knows no class for the architecture `{config.model_type}`.",
            hint="Leave the proof out with --verify none, at your own risk.",
        )
    if not isinstance(found, list | tuple):
        return found
    named = [cls for cls in found if cls.__name__ in (config.architectures or ())]
    return (named or list(found))[0]


def named_class(config: Any, *, trust_remote_code: bool = False) -> Any:
    """Return the class that a config's `architectures` names, or else that of `AutoModel`."""
    import transformers

    for name in config.architectures or ():
        found = getattr(transformers, str(name), None)
        if found is not None:
            return found
    return base_class(config, trust_remote_code=trust_remote_code)


def stored_tensors(folder: Path, make: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Return what `make` makes of each stored tensor, given the opened file and a name.

    Files that an index names and that are not there are left out: a folder of the hub's cache may
    hold only what was needed.

    Raises:
        VerificationError: a file is not what the index says, or no safetensors file.
    """
    from safetensors import SafetensorError

    tensors: dict[str, Any] = {}
    try:
        index = folder / _INDEX
        names: Mapping[str, str] = {}
        files = [folder / _SINGLE]
        if index.is_file():
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = [folder / name for name in sorted(set(names.values()))]
            files = [file for file in files if file.is_file()]
        for file in files:
            with _opened(file) as opened:
                for name in opened.keys():  # noqa: SIM118 (no mapping)
                    tensors[name] = make(opened, name)
        lost = [n for n, file in names.items() if folder / file in files and n not in tensors]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise does_not_open(folder, error) from error
    if lost:
        raise VerificationError(
            f"The index of `{folder.name}` promises the weight `{lost[0]}`, which is in no file.",
            cause=f"{len(lost)} such weights.",
        )
    return tensors


def _opened(file: Path) -> Any:
    """Return a safetensors file that is read tensor by tensor, not mapped into memory as a whole.

    Older versions of safetensors only know the mapping.
    """
    from safetensors import safe_open

    try:
        return safe_open(file, framework="pt", backend="pread")
    except TypeError:
        return safe_open(file, framework="pt")


def load_stock(
    cls: Any,
    folder: Path,
    config: Any,
    *,
    kept: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> tuple[Any, KeyReport]:
    """Return a model made by `cls.from_pretrained` of a folder's files, and its loader's report.

    Args:
        cls: a transformers model class.
        kept: decoder layers to load, None for all. The others have no weights and hand on what
            they get; those after the last of `kept` hand on what the first of them gets.
        dtype: of the weights in memory, None for that of the config.

    Raises:
        VerificationError: transformers does not open it.
    """
    with quiet_transformers():
        try:
            model, report = (cls if kept is None else _partly(cls, kept)).from_pretrained(
                None,
                config=config,
                state_dict=stored_tensors(folder, lambda opened, name: opened.get_slice(name)),
                dtype=dtype or "auto",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except PumaError:
            raise
        except Exception as error:
            raise does_not_open(folder, error) from error
    _align(model)
    return model.to(device).eval(), key_report(report)


def _align(model: Any) -> None:
    """Move weights that lie where their file has them to addresses that allocators give.

    Kernels differ in their last bits with the alignment of what they read, and the same tensor lies
    at another place in another file.
    """
    for parameter in model.parameters():
        if parameter.data_ptr() % _ALIGNMENT:
            parameter.data = parameter.data.clone()


def key_report(report: Mapping[str, Any]) -> KeyReport:
    """Return the loading info of transformers in order."""
    lists = [
        sorted(key if isinstance(key, str) else str(key[0]) for key in report[problem])
        for problem in _PROBLEMS
    ]
    return KeyReport(*(tuple(names) for names in lists))


def decoder_layers(model: Any) -> tuple[Any, str]:
    """Return the module that holds a model's decoder layers, and the name of their list in it.

    Raises:
        VerificationError: it cannot be told.
    """
    import torch

    depth = model.config.get_text_config(decoder=True).num_hidden_layers
    root = model.get_decoder()
    found = [
        (path.count("."), path)
        for path, module in root.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]
    if not found:
        raise VerificationError(
            f"The decoder layers of `{type(model).__name__}` are not found in memory.",
            cause=f"No list of {depth} layers in its decoder.",
            hint="Prove the names alone with --verify keys.",
        )
    owner, _, name = min(found)[1].rpartition(".")
    return root.get_submodule(owner), name


def _partly(cls: Any, kept: Sequence[int]) -> Any:
    """Return `cls` with the decoder layers beyond `kept` taken out before anything is loaded."""

    def init(self: Any, *args: Any, **options: Any) -> None:
        cls.__init__(self, *args, **options)
        owner, name = decoder_layers(self)
        layers = getattr(owner, name)
        first = max(kept) + 1
        at_first: list[Any] = []
        for index, layer in enumerate(layers):
            if index not in kept:
                layers[index] = _stand_in(layer, at_first if index >= first else None)
        owner.register_forward_pre_hook(lambda *_: at_first.clear())

    # The loader looks up how names were changed over time by the class's own name and module.
    body = {"__init__": init, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), body)


def _stand_in(layer: Any, memory: list[Any] | None) -> Any:
    """Return a module without weights that takes the place of `layer` and returns its input.

    With a `memory`, all that share it return what the first of them gets in a forward pass: some
    decoders add to the hidden states between their layers.
    """
    import torch

    class StandIn(torch.nn.Module):
        def forward(self, hidden_states: Any, *args: Any, **options: Any) -> Any:
            if memory is None:
                return hidden_states
            if not memory:
                memory.append(hidden_states)
            return memory[0]

    stand_in = StandIn()
    # Decoders ask their layers for facts such as the kind of attention.
    for key, value in vars(layer).items():
        if isinstance(value, str | int | float | bool) and key != "training":
            setattr(stand_in, key, value)
    return stand_in

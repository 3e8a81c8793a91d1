"""What a cut will do, told from the headers and the config alone: also the dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from puma_cli.checkpoint import decoder_keys
from puma_cli.checkpoint.safetensors_header import DTYPE_BITS, TensorEntry
from puma_cli.config.layers import are_first, checked_layers
from puma_cli.pruning.planning.config_edit import ConfigChange, edited_config
from puma_cli.pruning.planning.dtype_choice import dtype_after, target_dtype
from puma_cli.pruning.planning.head_choice import HeadChoice, choose_head
from puma_cli.pruning.planning.parent import Parent, read_parent


@dataclass(frozen=True)
class Move:
    """One tensor that stays: where it is, and what it becomes in the cut checkpoint.

    Args:
        name: its name there.
        dtype: its dtype there, as safetensors spells it; another than `entry.dtype` is a cast.
    """

    entry: TensorEntry
    name: str
    dtype: str

    @property
    def size(self) -> int:
        """Number of bytes in the cut checkpoint."""
        return self.entry.parameters * DTYPE_BITS[self.dtype] // 8


@dataclass(frozen=True)
class Drop:
    """One tensor that goes, and why, in words."""

    entry: TensorEntry
    reason: str


@dataclass(frozen=True)
class Loss:
    """The tensors that go for one reason: how many, with how many parameters and bytes."""

    reason: str
    tensors: int
    parameters: int
    size: int


@dataclass(frozen=True)
class PrunePlan:
    """A cut that has not happened yet.

    Args:
        folder: the parent checkpoint.
        model_type: its architecture.
        depth: its number of decoder layers L.
        kept: ascending indices of the layers that stay.
        moves: tensors that stay, in the order of the parent's files.
        dropped: tensors that go, each with its reason.
        config: the cut model's raw config.
        changes: what differs in it from the parent's.
        parameters_before: parameters by part of the model; `parameters_after` likewise.
        notes: sentences about what one might not expect.
    """

    folder: Path
    model_type: str
    depth: int
    kept: tuple[int, ...]
    moves: tuple[Move, ...]
    dropped: tuple[Drop, ...]
    config: dict[str, Any]
    changes: tuple[ConfigChange, ...]
    parameters_before: Mapping[str, int]
    parameters_after: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def first_only(self) -> bool:
        """Whether the kept layers are the first ones, none skipped."""
        return are_first(self.kept)

    @property
    def bytes_before(self) -> int:
        """Size of the parent's weights in bytes."""
        entries = [move.entry for move in self.moves] + [drop.entry for drop in self.dropped]
        return sum(entry.size for entry in entries)

    @property
    def bytes_after(self) -> int:
        """Size of the cut weights in bytes."""
        return sum(move.size for move in self.moves)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the parent's weight files that hold tensors that stay, in order."""
        return tuple(dict.fromkeys(move.entry.file.name for move in self.moves))

    @property
    def parameters(self) -> tuple[int, int]:
        """Number of parameters before and after."""
        return sum(self.parameters_before.values()), sum(self.parameters_after.values())

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What goes, by reason."""
        groups: dict[str, list[TensorEntry]] = {}
        for drop in self.dropped:
            groups.setdefault(drop.reason, []).append(drop.entry)
        return tuple(
            Loss(
                reason,
                len(entries),
                sum(entry.parameters for entry in entries),
                sum(entry.size for entry in entries),
            )
            for reason, entries in groups.items()
        )

    @property
    def casts(self) -> Mapping[tuple[str, str], int]:
        """Number of tensors by their dtypes before and after, where these differ."""
        pairs = ((move.entry.dtype, move.dtype) for move in self.moves)
        return Counter(pair for pair in pairs if pair[0] != pair[1])

    def summary(self) -> dict[str, Any]:
        """Return the plan as plain JSON, without its lists of tensors."""
        before, after = self.parameters
        return {
            "model_type": self.model_type,
            "layers_before": self.depth,
            "kept_layers": list(self.kept),
            "tensors_kept": len(self.moves),
            "tensors_dropped": len(self.dropped),
            "parameters_before": before,
            "parameters_after": after,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "parts_before": dict(self.parameters_before),
            "parts_after": dict(self.parameters_after),
            "config_changes": [asdict(change) for change in self.changes],
            "dropped": [asdict(loss) for loss in self.losses],
            "casts": [
                {"before": before, "after": after, "tensors": number}
                for (before, after), number in self.casts.items()
            ],
            "files_read": list(self.files),
            "notes": list(self.notes),
        }


def depth_of(folder: Path, tensors: Mapping[str, TensorEntry] | None = None) -> int:
    """Return the number of decoder layers of a checkpoint, checked against its config.

    Raises:
        CheckpointError: weights and config disagree, or the architecture cannot be cut.
    """
    return read_parent(folder, tensors).depth


def make_plan(
    folder: Path,
    kept: Sequence[int],
    *,
    tensors: Mapping[str, TensorEntry] | None = None,
    head: str = "auto",
    dtype: str = "auto",
) -> PrunePlan:
    """Plan the cut of a checkpoint folder to the decoder layers `kept`; write nothing.

    Args:
        folder: the checkpoint; of its weights only the headers are read.
        kept: ascending indices of the layers that stay, from 0.
        tensors: the headers, if they are known already; the shards then need not be there.
        head: what to do with an LM head: `keep`, `drop`, or `auto`, which drops one that is stored
            wherever the rest can be opened without it.
        dtype: `float32`, `float16`, `bfloat16`, or `auto`, which leaves every tensor as it is.

    Raises:
        CheckpointError: the checkpoint is broken or cannot be cut safely.
        ConfigError: `kept` is empty, not ascending or beyond the decoder; `head` or `dtype` is
            unknown or impossible here.
    """
    parent = read_parent(folder, tensors)
    layers = checked_layers(kept, parent.depth)
    moves, dropped, choice = divide(parent, layers, head=head, dtype=dtype)
    decoder = parent.decoder
    further = decoder.depth > parent.depth
    edited, changes = edited_config(
        parent.config, parent.section, layers, base=choice.base, dtype=dtype, further=further
    )
    staying = {move.name: move.entry for move in moves}
    return PrunePlan(
        folder=folder,
        model_type=parent.section.model_type,
        depth=parent.depth,
        kept=layers,
        moves=tuple(moves),
        dropped=tuple(dropped),
        config=edited,
        changes=changes,
        parameters_before=decoder_keys.parameters_by_part(decoder, parent.tensors),
        parameters_after=decoder_keys.parameters_by_part(decoder, staying),
        notes=(choice.note,) if choice.note else (),
    )


def divide(
    parent: Parent, layers: Sequence[int], *, head: str = "auto", dtype: str = "auto"
) -> tuple[list[Move], list[Drop], HeadChoice]:
    """Return the tensors that stay, those that go, and what becomes of an LM head.

    Args:
        layers: ascending indices of the layers that stay, below the depth.
        head, dtype: as for `make_plan`.

    Raises:
        ConfigError: `head` or `dtype` is unknown or impossible here.
    """
    decoder = parent.decoder
    slots = {layer: slot for slot, layer in enumerate(layers)}
    choice = HeadChoice()
    if any(decoder.part_of(name) == decoder_keys.HEAD for name in parent.tensors):
        choice = choose_head(head, parent.config, parent.section, decoder)
    target = target_dtype(dtype, parent.config, parent.tensors, decoder)
    moves: list[Move] = []
    dropped: list[Drop] = []
    for entry in in_file_order(parent.tensors):
        layer = decoder.layer_of(entry.name)
        if layer is None:
            if choice.reason and decoder.part_of(entry.name) == decoder_keys.HEAD:
                dropped.append(Drop(entry, choice.reason))
            else:
                moves.append(Move(entry, entry.name, dtype_after(entry, target)))
        elif layer in slots:
            name = decoder.renumbered(entry.name, slots[layer])
            moves.append(Move(entry, name, dtype_after(entry, target)))
        elif layer >= parent.depth:
            dropped.append(Drop(entry, "predicts further tokens: an embedder never uses it"))
        else:
            dropped.append(Drop(entry, "layer that is not kept"))
    return moves, dropped, choice


def in_file_order(tensors: Mapping[str, TensorEntry]) -> list[TensorEntry]:
    """Return the tensors as they lie in their files, file by file."""
    return sorted(tensors.values(), key=lambda entry: (entry.file.name, entry.start, entry.name))

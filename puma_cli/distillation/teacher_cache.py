"""The teacher's embeddings of everything that a training shows it, computed once, on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.evaluation.encode import out_of_memory_explained
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.progress import Reporter

# Inputs in a file: at a dimension of 3,584 it has 59 MB, and a stop loses one at most.
ROWS = 4_096
BATCH = 128
_VECTORS, _INPUTS = "vectors", "inputs"


class TeacherCache:
    """Un-normalised teacher embeddings by input, in float32 files of some thousand rows.

    Batches are a function of the seed and the step alone, so the inputs of a whole training are
    known before it begins. A file names the teacher and its inputs by a hash; one that does not fit
    is made anew.

    Args:
        folder: where the files lie.
        inputs: the distinct inputs of the training, in a fixed order.
        teacher: what identifies the teacher, such as its fingerprint.
    """

    def __init__(self, folder: Path, inputs: Sequence[Input], teacher: str) -> None:
        self._folder = folder
        self._inputs = inputs
        self._teacher = teacher
        self._places = {entry: place for place, entry in enumerate(inputs)}
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._inputs)

    def fill(self, load: Callable[[], Embedder], reporter: Reporter, stop: StopRequest) -> bool:
        """Compute what no file holds yet; return whether everything is there.

        Args:
            load: opens the teacher; it is not called if nothing is missing.
            stop: asked for before each file.

        Raises:
            DataError: an input cannot be read.
            DeviceError: the device runs out of memory.
            OutputError: the disk is full or refuses.
        """
        parts = {number: self._read(number) for number in range(self._count())}
        missing = [number for number, part in parts.items() if part is None]
        if missing:
            teacher = load()
            with evaluation_mode(teacher.model), out_of_memory_explained(BATCH):
                for number in reporter.track(missing, "teacher", total=len(missing)):
                    if stop:
                        return False
                    self._write(number, self._compute(teacher, number))
                    parts[number] = self._read(number)
        self._parts = [part for part in parts.values() if part is not None]
        return True

    def vectors(self, inputs: Sequence[Input]) -> Tensor:
        """Return the teacher's embeddings of some inputs, float32 (B, D) on the CPU."""
        places = [divmod(self._places[entry], ROWS) for entry in inputs]
        return torch.stack([self._parts[number][row] for number, row in places])

    def _count(self) -> int:
        return -(-len(self._inputs) // ROWS)

    def _rows(self, number: int) -> Sequence[Input]:
        return self._inputs[number * ROWS : (number + 1) * ROWS]

    def _file(self, number: int) -> Path:
        return self._folder / f"teacher-{number:05d}.safetensors"

    def _mark(self, number: int) -> str:
        rows = [
            (entry.text, None if entry.image is None else entry.image.as_posix(), entry.instruction)
            for entry in self._rows(number)
        ]
        return hashlib.sha256(json.dumps([self._teacher, rows]).encode()).hexdigest()

    @torch.no_grad()
    def _compute(self, teacher: Embedder, number: int) -> Tensor:
        rows = self._rows(number)
        out = torch.empty(len(rows), teacher.dimension)
        for places, batch in teacher.batches(rows, BATCH):
            out[places] = teacher.embed(batch).float().cpu()
        return out

    def _write(self, number: int, vectors: Tensor) -> None:
        draft = self._folder / ".teacher.partial"
        with explained_writes(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({_VECTORS: vectors}, draft, {_INPUTS: self._mark(number)})
            draft.rename(self._file(number))

    def _read(self, number: int) -> Tensor | None:
        """Return a file's rows, mapped rather than read, or None without a file that fits."""
        try:
            with safe_open(self._file(number), "pt") as file:
                fits = (file.metadata() or {}).get(_INPUTS) == self._mark(number)
                return file.get_tensor(_VECTORS) if fits else None
        except (OSError, SafetensorError):
            return None


def planned_inputs(order: BatchOrder, examples: Examples, steps: int) -> list[Input]:
    """Return the distinct inputs of a training's first `steps` batches, in order of appearance."""
    found: dict[Input, None] = {}
    for step in range(steps):
        epoch, indices = order.batch(step)
        found |= dict.fromkeys(examples.inputs(indices, epoch))
    return list(found)

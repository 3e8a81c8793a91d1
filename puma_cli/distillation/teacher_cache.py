"""The teacher's embeddings of everything that a training shows it, computed once, on disk."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Container, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.layout import PROVENANCE
from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.distillation.frozen_vision import FrozenVision
from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.errors import DataError
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import Reporter

# Inputs in a file: at a dimension of 3,584 it has 59 MB, and a stop loses one at most.
ROWS = 4_096
# Changes whenever the same input may be embedded otherwise than before.
FORMAT = 1
BATCH = 128
# Inputs that are read again to see that what was kept still holds, and how far a vector may be off:
# half precision and another batch's padding stay well below.
VERIFIED, TOLERANCE = 8, 0.02
# Of a teacher in bfloat16, padding alone moves the states by more.
COARSE_TOLERANCE = 0.06
_VECTORS, _KEYS = "vectors", "keys"
# Bytes of a key: no two of a billion inputs will share one.
KEY_BYTES = 16


class TeacherCache:
    """Un-normalised teacher embeddings by input, in files of some thousand rows.

    Batches are a function of the seed and the step alone, so the inputs of a whole training are
    known before it begins. A row is found by a hash of its text, image file and instruction; so
    trainings with the same teacher share what they have in common, whatever their seeds and steps.

    Args:
        folder: where the files lie, in a folder of the teacher's own.
        inputs: the distinct inputs of the training, in a fixed order.
        teacher: what identifies the teacher, from `identify_teacher`.
        inner: depths of it whose read-outs follow an embedding in its row.
        dtype: number format of the files; half precision takes half the space.
        verify: compare some of what was there before with what the teacher says now.
        batch: inputs that the teacher reads at once (>= 1).
    """

    def __init__(
        self,
        folder: Path,
        inputs: Sequence[Input],
        teacher: str,
        inner: Sequence[int] = (),
        dtype: torch.dtype = torch.float32,
        verify: bool = True,
        batch: int = BATCH,
    ) -> None:
        if inner:
            teacher = f"{teacher} {' '.join(map(str, inner))}"
        if dtype is not torch.float32:
            teacher = f"{teacher} {dtype}"
        self._dtype, self._verify, self._batch = dtype, verify, batch
        self._inner = tuple(inner)
        self._folder = folder / hashlib.sha256(teacher.encode()).hexdigest()[: 2 * KEY_BYTES]
        self._keys = _keys(inputs)
        self._places: dict[bytes, tuple[int, int]] = {}
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._keys)

    def fill(
        self,
        load: Callable[[], Embedder],
        reporter: Reporter,
        stop: StopRequest,
        processes: Processes = ALONE,
    ) -> bool:
        """Compute what no file holds yet; return whether everything is there.

        Args:
            load: opens the teacher; it is not called if nothing is missing.
            stop: asked for before each file.
            processes: those that share the files; each gets all.

        Raises:
            DataError: an input cannot be read.
            DeviceError: the device runs out of memory.
            OutputError: the disk is full or refuses.
        """
        wanted = self._wanted()
        missing = self.missing(processes)
        teacher = _Once(load)
        if self._verify and self._places:
            processes.first(lambda: self._compare(wanted, teacher()))
        files = [missing[start : start + ROWS] for start in range(0, len(missing), ROWS)]
        whole = self._compute_all(processes.share(files), teacher, reporter, stop)
        if processes.any(not whole):
            return False
        for rows in files:
            self._take(self._path(rows), wanted)
        return True

    def missing(self, processes: Processes = ALONE) -> list[Input]:
        """Return the inputs that no file holds yet, after a look at the files that are there."""
        wanted = self._wanted()
        # Files of other trainings may appear at any time: all processes go by what one has seen.
        for file in processes.first(lambda: sorted(self._folder.glob("*.safetensors"))):
            self._take(file, wanted)
        return [entry for key, entry in wanted.items() if key not in self._places]

    def _wanted(self) -> dict[bytes, Input]:
        return {key: entry for entry, key in self._keys.items()}

    def _compare(self, wanted: Mapping[bytes, Input], teacher: Embedder) -> None:
        """Refuse embeddings that the teacher would not give today."""
        random = np.random.default_rng(len(self._places))
        drawn = random.permutation(len(self._places))[:VERIFIED]
        keys = list(self._places)
        rows = [wanted[keys[i]] for i in drawn]
        with evaluation_mode(teacher.model):
            now = _compute(teacher, FrozenVision(teacher), rows, self._inner, self._batch)
        before = self.vectors(rows)
        distance = (now - before).norm(dim=1) / now.norm(dim=1).clamp(min=1e-12)
        bound = TOLERANCE if teacher.dtype is torch.float32 else COARSE_TOLERANCE
        if not bool((distance <= bound).all()):
            raise DataError(
                f"The teacher's embeddings in {self._folder} are not what it gives now.",
                cause=f"Of {len(rows)} that were read again, one differs by "
                f"{float(distance.max()):.1%} of its length; {bound:.1%} would be rounding.",
                hint="Delete the folder, or name another train.cache_dir.",
            )

    def _compute_all(
        self,
        files: Sequence[Sequence[Input]],
        load: Callable[[], Embedder],
        reporter: Reporter,
        stop: StopRequest,
    ) -> bool:
        """Write some files; return False if a stop was asked for meanwhile."""
        if not files:
            return True
        teacher = load()
        seen = FrozenVision(teacher)
        images = (e.image for rows in files for e in rows if e.image is not None and e.view is None)
        if not seen.fill(dict.fromkeys(images), reporter, stop):
            return False
        with evaluation_mode(teacher.model), out_of_memory_explained(self._batch):
            for rows in reporter.track(files, "teacher", total=len(files)):
                if stop:
                    return False
                self._write(rows, _compute(teacher, seen, rows, self._inner, self._batch))
        return True

    def sample(self, count: int, seed: int) -> Tensor:
        """Return at most so many of the training's embeddings, drawn by a seed, float32 (M, D)."""
        places = list(self._places.values())
        drawn = np.random.default_rng(seed).permutation(len(places))[:count]
        return torch.stack([self._parts[places[i][0]][places[i][1]] for i in drawn]).float()

    def vectors(self, inputs: Sequence[Input]) -> Tensor:
        """Return the teacher's embeddings of some inputs, float32 (B, D) on the CPU."""
        places = [self._places[self._keys[entry]] for entry in inputs]
        return torch.stack([self._parts[number][row] for number, row in places]).float()

    def _path(self, rows: Sequence[Input]) -> Path:
        # Named by what it holds, so that trainings may fill one folder at the same time.
        name = hashlib.sha256(self._joined_keys(rows)).hexdigest()[: 2 * KEY_BYTES]
        return self._folder / f"{name}.safetensors"

    def _joined_keys(self, rows: Sequence[Input]) -> bytes:
        return b"".join(self._keys[entry] for entry in rows)

    def _write(self, rows: Sequence[Input], vectors: Tensor) -> None:
        keys, path = self._joined_keys(rows), self._path(rows)
        draft = path.with_suffix(f".{secrets.token_hex(4)}.partial")
        table = torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(len(rows), KEY_BYTES)
        with explained_writes(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                save_file({_VECTORS: vectors.to(self._dtype), _KEYS: table}, draft)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)

    def _take(self, path: Path, wanted: Container[bytes]) -> None:
        """Note the rows of a file that the training needs; they are mapped rather than read."""
        try:
            with safe_open(path, "pt") as file:
                keys, vectors = file.get_tensor(_KEYS), file.get_tensor(_VECTORS)
        except (OSError, SafetensorError):
            # Cut off by a crash: its rows are computed again.
            return
        raw = keys.numpy().tobytes()
        for row in range(len(keys)):
            key = raw[row * KEY_BYTES : (row + 1) * KEY_BYTES]
            if key in wanted:
                self._places[key] = (len(self._parts), row)
        self._parts.append(vectors)


class _Once:
    """Opens the teacher when it is first asked for."""

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load = load
        self._found: Embedder | None = None

    def __call__(self) -> Embedder:
        self._found = self._found or self._load()
        return self._found


@torch.no_grad()
def _compute(
    teacher: Embedder, seen: FrozenVision, rows: Sequence[Input], inner: Sequence[int], batch: int
) -> Tensor:
    out = torch.empty(len(rows), teacher.dimension + len(inner) * teacher.width)
    for places, some in teacher.batches(rows, batch):
        out[places] = teacher.embed(some, seen.features(some), inner).float().cpu()
    return out


def identify_teacher(
    folder: Path, full: bool = False, dtype: str = "float32", max_pixels: int | None = None
) -> str:
    """Return what the embeddings of a checkpoint hang on: its hash and all of its small files.

    Args:
        full: hash every byte of the weights, instead of a sample of them.
        dtype: number format that it computes in.
        max_pixels: the limit on images, if it is another than the checkpoint's own.
    """
    small = [file for pattern in ("*.json", "*.jinja") for file in folder.glob(pattern)]
    digest = hashlib.sha256()
    for file in sorted(small):
        if file.name != PROVENANCE:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    found = f"{FORMAT} {identify(folder, full)} {digest.hexdigest()}"
    found += "" if dtype == "float32" else f" in {dtype}"
    return found + ("" if max_pixels is None else f" of {max_pixels} pixels")


def _keys(inputs: Sequence[Input]) -> dict[Input, bytes]:
    """Return a hash of each input; of an image it sees path, size and time of change."""

    @cache
    def state(image: Path) -> tuple[str, int, int]:
        try:
            found = image.stat()
        except OSError:  # said clearly where the image is opened
            return str(image), -1, 0
        return str(image.resolve()), found.st_size, found.st_mtime_ns

    keys = {}
    for entry in inputs:
        row = [entry.text, entry.image and state(entry.image), entry.instruction]
        keys[entry] = hashlib.sha256(json.dumps(row).encode()).digest()[:KEY_BYTES]
    return keys


def planned_inputs(order: BatchOrder, examples: Examples, steps: int) -> list[Input]:
    """Return the distinct inputs of a training's first `steps` batches, in order of appearance."""
    found: dict[Input, None] = {}
    for step in range(steps):
        epoch, indices = order.batch(step)
        found |= dict.fromkeys(examples.batch(indices, epoch).inputs)
    return list(found)

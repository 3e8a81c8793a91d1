"""A model at work: puma-mini must say today what it said when it was packaged.

Versions of libraries differ in ways that raise no error, and that leave images out of account, say.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from puma_cli.diagnosis.findings import BAD, Finding
from puma_cli.errors import PumaError
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load

MODEL = "puma-mini"
# Largest distance between unit vectors; rounding in float32 gives some 1e-6 on any device.
TOLERANCE = 1e-3
_ANSWERS = "self_test.json"


def examine_model(device: str = "auto") -> list[Finding]:
    """Embed a text, two images and both together, and compare with the recorded vectors."""
    name = f"{MODEL} embeds"
    try:
        began = time.perf_counter()
        found = embed(device)
        seconds = time.perf_counter() - began
    except PumaError as error:
        return [Finding("self-test", name, "failed", BAD, error.problem, error.hint)]
    except Exception as error:  # what a broken stack raises is what this is there to find
        problem = f"{MODEL} does not run: {type(error).__name__}: {error}"
        return [Finding("self-test", name, "failed", BAD, problem, "puma doctor --debug")]
    distances = (found - torch.tensor(recorded())).norm(dim=1).tolist()
    findings = []
    for (kind, _), distance in zip(shown(Path()), distances, strict=True):
        value = f"{distance:.1e} from the recorded vector"
        if distance <= TOLERANCE:
            findings.append(Finding("self-test", kind, value))
            continue
        problem = f"The embedding of {kind} is {distance:.2f} away from what it was."
        hint = "Install the versions of constraints.txt, and tell us which ones you had."
        findings.append(Finding("self-test", kind, value, BAD, problem, hint))
    return [*findings, Finding("self-test", "time", f"{seconds:.1f} s, opening included")]


def recorded() -> list[list[float]]:
    """Return the vectors as they were (4, D)."""
    text = files(__package__).joinpath(_ANSWERS).read_text(encoding="utf-8")
    answers: list[list[float]] = json.loads(text)
    return answers


def shown(folder: Path) -> Sequence[tuple[str, Input]]:
    """Return what is embedded, with names; the images lie in `folder`."""
    first, second = folder / "first.png", folder / "second.png"
    return (
        ("a text", Input(text="A small red circle left of a large blue square.")),
        ("an image", Input(image=first)),
        ("another image", Input(image=second)),
        ("an image with text", Input(text="the same in green", image=first, instruction="Find.")),
    )


def embed(device: str) -> torch.Tensor:
    """Return puma-mini's embeddings of what is shown, float32 on the CPU (4, D)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Losslessly, and of the size that the model takes: nothing is left to a decoder or scaler.
        for file, pixels in zip(("first.png", "second.png"), _pictures(), strict=True):
            Image.fromarray(pixels).save(folder / file)
        return load(MODEL, device, "float32").encode([entry for _, entry in shown(folder)])


def _pictures() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:56, 0:56]
    waves = np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=-1)
    disc = ((rows - 28) ** 2 + (columns - 28) ** 2 < 300)[..., None]
    return waves.astype(np.uint8), np.where(disc, [200, 30, 30], [250, 250, 250]).astype(np.uint8)


def main() -> None:
    """Record the vectors: `python -m puma_cli.diagnosis.self_test`, when puma-mini changes."""
    vectors = [[round(value, 6) for value in row] for row in embed("cpu").tolist()]
    Path(__file__).with_name(_ANSWERS).write_text(json.dumps(vectors) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

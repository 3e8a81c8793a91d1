"""Opening folders where puma was never heard of, and comparing the vectors with puma's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from puma_cli.models.inputs import Input
from puma_cli.models.opening import load

# Reads each folder's card, takes its code at its word and embeds what it is asked to.
SCRIPT = """
import json, pathlib, re, sys
folders, asked = json.loads(sys.argv[1])
vectors = []
for folder in folders:
    card = pathlib.Path(folder, "README.md").read_text()
    code = re.search(r"```python\\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(code[1].replace('folder = "."', f"folder = {folder!r}"), names)
    vectors.append([names["embed"](text, image).tolist() for text, image in asked])
assert not any(name.split(".")[0] in ("puma", "puma_cli") for name in sys.modules)
print(json.dumps(vectors))
"""


def check_cards(folders: Sequence[Path], scratch: Path) -> None:
    """Check that the code on each folder's card gives puma's vectors to 1e-5 in fp32.

    Args:
        scratch: an existing folder to draw pictures in.
    """
    picture, see_through = scratch / "picture.png", scratch / "see_through.png"
    mandelbrot = Image.effect_mandelbrot((90, 60), (-2, -1, 1, 1), 20)
    mandelbrot.convert("RGB").save(picture)
    Image.merge("RGBA", [*mandelbrot.convert("RGB").split(), mandelbrot]).save(see_through)
    inputs = [
        Input(text="a red square"),
        Input(image=picture),
        Input(image=see_through),
        Input(text="on white", image=picture, instruction="Find the picture."),
    ]
    asked = [
        ["a red square", None],
        [None, str(picture)],
        [None, str(see_through)],
        ["Find the picture.\non white", str(picture)],
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([[str(folder) for folder in folders], asked])],
        cwd=scratch,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for folder, vectors in zip(folders, json.loads(done.stdout), strict=True):
        expected = load(folder, device="cpu", dtype="float32").encode(inputs)
        assert (torch.tensor(vectors) - expected).abs().max() <= 1e-5, folder

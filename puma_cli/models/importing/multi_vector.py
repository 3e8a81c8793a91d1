"""Models that make a vector of every token, which puma has no search for."""

from __future__ import annotations

import json
import re
from pathlib import Path

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.errors import CheckpointError

# ColPali, ColQwen2, ColQwen2.5, ColQwen3, ColIdefics3, ColSmol and those that follow their names.
_CLASS = re.compile(
    r"^(Bi)?Col(Pali|Gemma|Idefics|Smol|Qwen|Intern|Bert|Vision|Modern|Flor)|ForRetrieval$",
    re.IGNORECASE,
)
_TYPES = re.compile(r"^(col(pali|qwen|idefics|smol|bert)|modernvbert)", re.IGNORECASE)
_MODULES = ("MultiVector", "ColBERT", "pylate", "LateInteraction")


def refuse_multi_vector(folder: Path) -> None:
    """Raise CheckpointError if a folder says that it makes several vectors of an input."""
    config = read_object(folder / layout.CONFIG) if (folder / layout.CONFIG).is_file() else {}
    names = [str(name) for name in config.get("architectures") or ()]
    found = next((name for name in names if _CLASS.search(name)), None)
    if found is None and _TYPES.search(str(config.get("model_type", ""))):
        found = str(config["model_type"])
    modules = folder / layout.LAYOUT.modules
    if found is None and modules.is_file():
        said = modules.read_text(encoding="utf-8", errors="replace")
        found = next((name for name in _MODULES if name in said), None)
    if found is None and _says_multi_vector(folder):
        found = "a MultiVectorEncoder"
    if found is not None:
        raise CheckpointError(
            f"{folder} is a model of several vectors an input ({found}).",
            cause="puma compares one vector with one; the late interaction of ColPali and its like "
            "compares every token of a query with every one of a document.",
            hint="Take a model of one vector, such as GME-Qwen2-VL or Qwen3-VL-Embedding.",
        )


def _says_multi_vector(folder: Path) -> bool:
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False  # said where its prompts are read
    return isinstance(content, dict) and "MultiVector" in str(content.get("model_type"))

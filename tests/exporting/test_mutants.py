"""An export that is wrong in one way makes vectors that are far away, of every architecture."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from puma_cli.exporting.formats import SENTENCE_TRANSFORMERS, TRANSFORMERS
from puma_cli.exporting.loaders import with_transformers
from tests.exporting.architectures import (
    ARCHITECTURES,
    CAUGHT,
    VISION,
    Made,
    differences,
    edit,
    stock,
)


def _template(folder: Path, old: str, new: str) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _told(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: edit(folder / "embedder.json", lambda told: told.update(changes))


def _without(kind: str) -> Callable[[Path], object]:
    """Return what takes a module out of a folder of sentence-transformers."""

    def take(modules: list[dict[str, Any]]) -> None:
        modules[:] = [each for each in modules if not each["type"].endswith(kind)]

    return lambda folder: edit(folder / "modules.json", take)


def _pixels(folder: Path) -> None:
    side = {"shortest_edge": 1024, "longest_edge": 1024}
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            edit(folder / name, lambda content: content.update(size=side))


ANY: dict[str, Callable[[Path], object]] = {
    "template without its last token": lambda folder: _template(folder, "<|embed|>", ""),
    "instruction after the text": lambda folder: _template(
        folder, "gathered.lines + [part.text]", "[part.text] + gathered.lines"
    ),
}
SEEN: dict[str, Callable[[Path], object]] = {
    "missing image prefix": lambda folder: _template(folder, "<|vision_start|>", ""),
    "other pixel limits": _pixels,
}
MUTANTS: dict[str, dict[str, Callable[[Path], object]]] = {
    TRANSFORMERS: {
        "a dropped bridge": _told(head=None),
        "missing normalisation": _told(normalize=False),
        "read at the first token": _told(pooling="first"),
        "the mean of all tokens": _told(pooling="mean"),
    },
    SENTENCE_TRANSFORMERS: {
        "a dropped bridge": _without("Dense"),
        "missing normalisation": _without("Normalize"),
        "read at the first token": lambda folder: edit(
            folder / "1_Pooling" / "config.json", lambda told: told.update(pooling_mode="cls")
        ),
    },
}
CASES = [
    (kind, loader, name)
    for kind in ARCHITECTURES
    for loader, mutants in MUTANTS.items()
    # What this loader does is the same for all; it takes the longest.
    if loader == TRANSFORMERS or kind in ("qwen3_vl", "qwen3")
    for name in (*ANY, *(SEEN if kind in VISION else ()), *mutants)
]


@pytest.mark.parametrize(("kind", "loader", "name"), CASES)
def test_a_mutant_is_far_away(
    make: Callable[[str], Made], kind: str, loader: str, name: str, tmp_path: Path
) -> None:
    made = make(kind)
    folder = tmp_path / "mutant"
    source = made.opened if loader == SENTENCE_TRANSFORMERS else made.exported / TRANSFORMERS
    shutil.copytree(source, folder)
    (ANY | SEEN | MUTANTS[loader])[name](folder)
    told = ("text with instruction", "image and text with instruction")
    exact = {name: batch for name, batch in made.batches.items() if name in told}
    assert max(differences(stock(loader), folder, made.model, exact).values()) > CAUGHT


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_loader_that_reads_one_token_early_is_far_away(
    make: Callable[[str], Made], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, right = make(kind), with_transformers.last_places
    monkeypatch.setattr(with_transformers, "last_places", lambda mask: right(mask) - 1)
    folder = made.exported / TRANSFORMERS
    found = differences(with_transformers, folder, made.model, made.batches)
    assert min(found.values()) > CAUGHT


@pytest.mark.parametrize("counted", ["positions", "mask"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_loader_that_counts_padding_is_far_away(
    make: Callable[[str], Made], kind: str, counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if padding were tokens, or as if the last token came behind a row's padding.

    Positions that merely begin later are the same to rotary embeddings, which see distances alone.
    """
    made = make(kind)
    network = type(made.model.model)
    plain = network.forward

    def counting(self: Any, *args: Any, **given: Any) -> Any:
        if "position_ids" in given:  # puma gives them
            return plain(self, *args, **given)
        mask = given["attention_mask"]
        if counted == "mask":
            given["attention_mask"] = torch.ones_like(mask)
        else:
            places = mask.cumsum(1) - 1
            last = with_transformers.last_places(mask)
            places[torch.arange(len(mask)), last] = mask.shape[1] - 1
            given["position_ids"] = places.expand(3, -1, -1) if kind in VISION else places
        return plain(self, *args, **given)

    monkeypatch.setattr(network, "forward", counting)
    # Images have positions of their own.
    texts = {name: each for name, each in made.batches.items() if name.startswith("text")}
    padded = {name: each for name, each in texts.items() if "alone" not in name}
    found = differences(with_transformers, made.exported / TRANSFORMERS, made.model, padded)
    assert max(found.values()) > CAUGHT

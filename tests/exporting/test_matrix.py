"""Every architecture in every format makes its vectors in every loader; mutants of each do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from puma_cli.config.settings import ExportSettings
from puma_cli.exporting.export import export
from puma_cli.exporting.formats import FORMATS, SENTENCE_TRANSFORMERS, TRANSFORMERS
from puma_cli.exporting.loaders import with_transformers
from puma_cli.exporting.parity.check import OTHER_BATCH, SAME_BATCH
from puma_cli.exporting.parity.probes import ProbeBatch, probe_batches
from puma_cli.exporting.parity.reference import reference
from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load
from tests.exporting.architectures import (
    ARCHITECTURES,
    OUTPUTS,
    TEXT,
    VISION,
    build_embedder,
    differences,
)
from tests.exporting.conftest import without_torchvision

CAUGHT = 1e-3


@dataclass(frozen=True)
class Made:
    """A model and its exports.

    Args:
        exported: a folder for each format.
        opened: that of sentence-transformers, as it opens without torchvision.
    """

    model: Embedder
    exported: Path
    opened: Path
    batches: Mapping[str, ProbeBatch]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Return what makes an architecture's model and exports, once."""

    @cache
    def made(kind: str) -> Made:
        root = tmp_path_factory.mktemp(kind)
        folder, exported = build_embedder(root / "model", kind), root / "exported"
        export(ExportSettings(str(folder), exported, format="all", verify=False))
        opened = exported / SENTENCE_TRANSFORMERS
        if kind in VISION:
            opened = without_torchvision(opened, root / "opened")
        model = reference(folder, "float32", load(folder, "cpu").head)
        return Made(model, exported, opened, probe_batches(root, kind in VISION))

    return made


def stock(name: str) -> Any:
    """Return the module of a loader."""
    if name == TRANSFORMERS:
        return with_transformers
    pytest.importorskip("sentence_transformers")
    from puma_cli.exporting.loaders import with_sentence_transformers

    return with_sentence_transformers


@pytest.mark.parametrize(
    ("format_", "loader"),
    [*((name, TRANSFORMERS) for name in FORMATS), (SENTENCE_TRANSFORMERS, SENTENCE_TRANSFORMERS)],
)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_loader_makes_the_same_vectors(
    make: Callable[[str], Made], kind: str, format_: str, loader: str
) -> None:
    """Text, image, both; queries and documents; padded left and right; one and many."""
    made = make(kind)
    folder = made.opened if loader == SENTENCE_TRANSFORMERS else made.exported / format_
    found = differences(stock(loader), folder, made.model, made.batches)
    assert len(found) == (18 if kind in VISION else 6)
    for name, difference in found.items():
        assert difference <= (SAME_BATCH if made.batches[name].exact else OTHER_BATCH), name


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_first_dimensions_of_a_bridge_are_exported(
    make: Callable[[str], Made], kind: str, tmp_path: Path
) -> None:
    made = make(kind)
    settings = ExportSettings(
        str(made.model.folder), tmp_path / "out", dimensions=16, dtype="bfloat16", verify=False
    )
    assert export(settings).dimension == 16
    whole = reference(Path(settings.model), "bfloat16", made.model.head)
    short = load(settings.output_dir, "cpu", "float32")
    assert short.head is not None and short.head.outputs == 16
    reference_ = reference(settings.output_dir, "float32", short.head)
    opened = settings.output_dir
    if kind in VISION:
        opened = without_torchvision(opened, tmp_path / "opened")
    found = differences(stock(SENTENCE_TRANSFORMERS), opened, reference_, made.batches)
    assert max(found.values()) <= OTHER_BATCH
    inputs = [entry for batch in made.batches.values() for entry in batch.inputs]
    expected = normalize(whole.encode(inputs)[:, :16], dim=1)
    torch.testing.assert_close(short.encode(inputs), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["qwen3_vl", "qwen3"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_other_poolings_are_carried(tmp_path: Path, kind: str, pooling: str) -> None:
    # What all prompts begin with has always the same state: this one begins with what is asked.
    template = (
        "{%- for message in messages -%}{%- if message.content is string -%}{{ message.content }}"
        "{%- else -%}{%- for part in message.content -%}"
        "{%- if part.type == 'image' -%}<|image_pad|>{%- else -%}{{ part.text }}{%- endif -%}"
        "{%- endfor -%}{%- endif -%}{%- endfor -%}<|embed|>"
    )
    changes: dict[str, Any] = {"pooling": pooling, "template": template}
    folder = build_embedder(tmp_path / "model", kind, **changes)
    export(ExportSettings(str(folder), tmp_path / "out", verify=False))
    model = reference(folder, "float32", load(folder, "cpu").head)
    batches = probe_batches(tmp_path, kind in VISION)
    opened = tmp_path / "out"
    found = differences(with_transformers, opened, model, batches)
    if kind in VISION:
        opened = without_torchvision(opened, tmp_path / "opened")
    there = differences(stock(SENTENCE_TRANSFORMERS), opened, model, batches)
    assert max(*found.values(), *there.values()) <= OTHER_BATCH
    # Read elsewhere, the vectors are others.
    _edit(tmp_path / "out" / "embedder.json", lambda told: told.update(pooling="last"))
    assert max(differences(with_transformers, tmp_path / "out", model, batches).values()) > CAUGHT


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _template(folder: Path, old: str, new: str) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _told(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: _edit(folder / "embedder.json", lambda told: told.update(changes))


def _without(kind: str) -> Callable[[Path], object]:
    """Return what takes a module out of a folder of sentence-transformers."""

    def take(modules: list[dict[str, Any]]) -> None:
        modules[:] = [each for each in modules if not each["type"].endswith(kind)]

    return lambda folder: _edit(folder / "modules.json", take)


def _pixels(folder: Path) -> None:
    side = {"shortest_edge": 1024, "longest_edge": 1024}
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            _edit(folder / name, lambda content: content.update(size=side))


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
        "read at the first token": lambda folder: _edit(
            folder / "1_Pooling" / "config.json", lambda told: told.update(pooling_mode="cls")
        ),
    },
}
CASES = [
    (kind, loader, name)
    for kind in ARCHITECTURES
    for loader, mutants in MUTANTS.items()
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
    exact = {name: batch for name, batch in made.batches.items() if batch.exact}
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


def test_text_models_are_the_two_that_are_exported() -> None:
    assert set(ARCHITECTURES) == set(VISION) | set(TEXT) and OUTPUTS == 24

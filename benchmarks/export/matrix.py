"""Parity of exports: architecture x format x loader x batch, each loader in a process of its own.

    python benchmarks/export/matrix.py

Tiny random models with a bridge stand for the architectures. What is in the rows already, by these
versions, is not measured again. sentence-transformers reads the images of these models with
torchvision; where that is not installed, its folder is opened as a copy that names another stock
processor, equal in effect.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from puma_cli.config.settings import ExportSettings
from puma_cli.exporting.export import export
from puma_cli.exporting.formats import FORMATS, LOADERS, SENTENCE_TRANSFORMERS
from puma_cli.exporting.parity.check import OTHER_BATCH, SAME_BATCH, check_export
from puma_cli.exporting.parity.reference import reference
from puma_cli.models.opening import load
from tests.exporting.architectures import ARCHITECTURES, VISION, build_embedder
from tests.exporting.conftest import without_torchvision

NAMES = {
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "qwen2": "Qwen2, text alone",
    "qwen3": "Qwen3, text alone",
}
MODALITIES = ("text", "image", "image and text")
START, END = "<!-- matrix -->\n", "<!-- /matrix -->\n"


def main() -> None:
    """Measure what is missing, append it to the rows, and write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, default=Path("docs/results/export.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/results/export.md"))
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    asked = parser.parse_args()
    versions = {name: metadata.version(name) for name in ("transformers", SENTENCE_TRANSFORMERS)}
    versions |= {"torch": metadata.version("torch"), "python": platform.python_version()}
    rows = read_rows(asked.rows)
    done = {key(row) for row in rows if row["versions"] == versions}
    for dtype in asked.dtypes:
        for kind in ARCHITECTURES:
            wanted = [(kind, dtype, name, loader) for name in FORMATS for loader in LOADERS[name]]
            missing = [each for each in wanted if each not in done]
            for row in measure(kind, dtype, missing) if missing else ():
                row["versions"] = versions
                with asked.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(*key(row), f"{max(case['difference'] for case in row['cases']):.1e}")
    latest = {key(row): row for row in read_rows(asked.rows) if row["versions"] == versions}
    text = asked.page.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    table = START + "\n".join(tables(list(latest.values()))) + "\n" + END
    asked.page.write_text(before + table + after, encoding="utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows that were measured before."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def key(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return what a row is about."""
    return row["architecture"], row["dtype"], row["format"], row["loader"]


def measure(
    kind: str, dtype: str, wanted: Sequence[tuple[str, str, str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each format and loader of one architecture.

    Raises:
        VerificationError: a difference is more than rounding.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = build_embedder(root / "model", kind)
        settings = ExportSettings(
            str(folder), root / "out", format="all", dtype=dtype, verify=False
        )
        exported = export(settings).folders
        model = reference(folder, dtype, load(folder, "cpu").head)
        for _, _, format_, loader in wanted:
            opened = exported[format_]
            aside = loader == SENTENCE_TRANSFORMERS and kind in VISION and not has_torchvision()
            if aside:
                opened = without_torchvision(opened, root / f"{format_}-opened")
            found = check_export(exported[format_], model, loader, opened)
            assert found.cases, found.unchecked
            yield {
                "architecture": kind,
                "dtype": dtype,
                "format": format_,
                "loader": loader,
                "torchvision": not aside,
                "cases": [
                    {"name": case.name, "difference": case.difference, "bound": case.bound}
                    for case in found.cases
                ],
            }


def has_torchvision() -> bool:
    """Tell whether torchvision is installed."""
    return find_spec("torchvision") is not None


def tables(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the page's tables: the worst of each modality, by kind of batch."""
    same, other = (
        f"{SAME_BATCH:.0e}".replace("e-0", "e-"),
        f"{OTHER_BATCH:.0e}".replace("e-0", "e-"),
    )
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        few = [row for row in rows if row["dtype"] == dtype]
        yield ""
        yield (
            f"Exported in {dtype}: the same batch with the same padding / another batch, or padded "
            f"on the other side; the bounds are {same} / {other}."
        )
        yield ""
        yield f"| architecture | format | opened with | {' | '.join(MODALITIES)} |"
        yield "|---" * (3 + len(MODALITIES)) + "|"
        for row in few:
            cells = [cell(row, modality) for modality in MODALITIES]
            names = (NAMES[row["architecture"]], row["format"], row["loader"])
            yield f"| {' | '.join((*names, *cells))} |"


def cell(row: dict[str, Any], modality: str) -> str:
    """Return the largest differences of a modality, with and without an instruction."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for case in row["cases"]:
        told = case["name"].partition(",")[0].removesuffix(" with instruction")
        if told == modality:
            found[case["bound"] == SAME_BATCH].append(case["difference"])
    if not found[True]:
        return "none"
    return " / ".join("0" if max(each) == 0 else f"{max(each):.1e}" for each in found.values())


if __name__ == "__main__":
    main()

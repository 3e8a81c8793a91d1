"""The commands and the Python of the documents, run in their order on a small data set."""

import contextlib
import csv
import json
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest

from puma_cli.cli.app import run

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?:<!-- not run: (\w+) -->\n)?```(python|)\n(.*?)```", re.DOTALL)
# Why a block may be left out, and how many are.
LEFT_OUT = {"network": 2, "torchvision": 1}
NAMES = ("analyze", "distill", "mine", "eval", "export", "embed", "search")
DOCUMENTS = ("README.md", *(f"docs/{name}.md" for name in NAMES))
# A training as the documents have it takes minutes: it is stopped after two steps.
SHORT = ["--set", "train.steps=2", "--set", "train.validation_limit=1", "--overwrite"]
SMALL = ["--train-scenes", "60", "--test-targets", "4", "--val-targets", "4", "--overwrite"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the documents take for granted."""
    folder = tmp_path_factory.mktemp("workplace")
    with contextlib.chdir(folder):
        assert run(["data", "scenes", "--output-dir", "scenes", *SMALL]) == 0
        assert run(["prune", "puma-mini", "--keep", "4", "--output-dir", "pruned"]) == 0
        with Path("nli.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["sent0", "sent1", "hard_neg"])
            rows.writerows([f"a {n} walks", f"{n} moves", f"{n} sleeps"] for n in range(12))
        Path("shop").mkdir()
        pairs = [{"query": f"thing {n}", "positive": f"the {n}th thing"} for n in range(6)]
        lines = "".join(f"{json.dumps(pair)}\n" for pair in pairs)
        Path("shop/pairs.jsonl").write_text(lines, encoding="utf-8")
        pictures = sorted(Path("scenes/mbeir_images").rglob("*.png"))[:6]
        Path("photos").mkdir()
        for picture in pictures:
            shutil.copy(picture, "photos")
        # As good as a trained one, where it is only used.
        shutil.copytree("pruned", "student")
    return folder


def _blocks(document: str) -> list[tuple[str, str, str]]:
    """Return the fenced blocks of a document that hold Python or commands of puma.

    With each, why it is not run, or an empty string, and its language.
    """
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        (why, kind, body)
        for why, kind, body in BLOCK.findall(text)
        if kind == "python" or body.startswith("puma ")
    ]


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "distill" and "--dry-run" not in words:
        words += SHORT
    elif words[0] == "data":
        words += SMALL
    elif "--output-dir" in words:
        words += ["--overwrite"]
    return words


def test_few_blocks_are_left_out() -> None:
    found = Counter(why for document in DOCUMENTS for why, _, _ in _blocks(document) if why)
    assert found == LEFT_OUT


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_everything_in_the_document_runs(
    document: str,
    workplace: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(workplace, folder)
    monkeypatch.setenv("PUMA_CACHE", str(tmp_path / "cache"))
    ran = 0
    with contextlib.chdir(folder):
        for why, kind, body in _blocks(document):
            if why:
                continue
            if kind == "python":
                exec(compile(body, document, "exec"), {})
                ran += 1
                continue
            for line in body.replace("\\\n", " ").splitlines():
                code = run(_words(line))
                assert code == 0, f"{line}\n{capfd.readouterr().err}"
                ran += 1
    assert ran > 0

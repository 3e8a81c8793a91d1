"""The commands and the Python of the documents, run in their order on a small data set."""

import contextlib
import csv
import re
import shlex
import shutil
from pathlib import Path

import pytest

from puma_cli.cli.app import run

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"```(python|)\n(.*?)```", re.DOTALL)
# A training as the documents have it takes minutes: it is stopped after two steps.
SHORT = ["--set", "train.steps=2", "--set", "train.validation_limit=1", "--overwrite"]
SMALL = ["--train-scenes", "60", "--test-targets", "4", "--val-targets", "4", "--overwrite"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the documents take for granted: `scenes`, `pruned`, `nli.csv`."""
    folder = tmp_path_factory.mktemp("workplace")
    with contextlib.chdir(folder):
        assert run(["data", "scenes", "--output-dir", "scenes", *SMALL]) == 0
        assert run(["prune", "puma-mini", "--keep", "4", "--output-dir", "pruned"]) == 0
        with Path("nli.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["sent0", "sent1", "hard_neg"])
            rows.writerows([f"a {n} walks", f"{n} moves", f"{n} sleeps"] for n in range(12))
    return folder


def _blocks(document: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a document that hold Python or commands of puma."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        (kind, body)
        for kind, body in BLOCK.findall(text)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "document", ["README.md", "docs/analyze.md", "docs/distill.md", "docs/mine.md", "docs/eval.md"]
)
def test_everything_in_the_document_runs(
    document: str, workplace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(workplace, folder)
    ran = 0
    with contextlib.chdir(folder):
        for kind, body in _blocks(document):
            if kind == "python":
                exec(compile(body, document, "exec"), {})
                ran += 1
                continue
            for line in body.replace("\\\n", " ").splitlines():
                code = run(_words(line))
                assert code == 0, f"{line}\n{capfd.readouterr().err}"
                ran += 1
    assert ran > 0

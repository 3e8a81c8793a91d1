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
from tests.models.importing.builders import sentence_transformer
from tests.models.importing.texts import text_data

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?:<!-- not run: (\w+) -->\n)?```(\w*)\n(.*?)```", re.DOTALL)
# Why a block may be left out, and how many are.
LEFT_OUT = {"network": 4, "torchvision": 3, "gpu": 6, "vllm": 3, "minutes": 1}
GUIDES = ("choose-k", "own-pairs", "one-gpu", "many-gpus", "evaluate", "deploy")
NAMES = (
    *("quickstart", "tutorial", *(f"guides/{name}" for name in GUIDES)),
    *(
        "analyze",
        "distill",
        "mine",
        "eval",
        "export",
        "import",
        "embed",
        "search",
        "scale",
        "bench",
        "api",
    ),
)
DOCUMENTS = ("README.md", *(f"docs/{name}.md" for name in NAMES))
# A training as the documents have it takes minutes: it is stopped after two steps.
SHORT = ["--set", "train.steps=2", "--set", "train.validation_limit=1", "--overwrite"]
QUICK = ["--rounds", "1", "--warmup", "0", "--inputs", "6", "--alone", "1", "--no-memory"]
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
        text_data(folder / "data")
        sentence_transformer(folder / "embedder", prompts={"query": "ask: ", "document": ""})
        pictures = sorted(Path("scenes/mbeir_images").rglob("*.png"))[:6]
        Path("photos").mkdir()
        for picture in pictures:
            shutil.copy(picture, "photos")
        # As good as a trained one, where it is only used.
        shutil.copytree("pruned", "student")
    return folder


def _blocks(document: str) -> list[tuple[str, str, str]]:
    """Return the fenced blocks of a document that hold Python, commands of puma, or a mark.

    With each, why it is not run, or an empty string, and its language.
    """
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        (why, kind, body)
        for why, kind, body in BLOCK.findall(text)
        if why or kind == "python" or (not kind and body.startswith("puma "))
    ]


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "distill" and "--dry-run" not in words:
        words += SHORT
        if "paper" in words:
            # There are few pairs of texts here.
            words += ["--set", "batch.size=8"]
    elif words[:2] == ["data", "scenes"]:
        words += SMALL
    elif words[0] == "bench":
        words += QUICK
    elif "--output-dir" in words:
        words += ["--overwrite"]
    if words[0] == "analyze":
        # Depths are timed in batches of so many.
        words += ["--batch-size", "16"]
    return words


def test_few_blocks_are_left_out() -> None:
    found = Counter(why for document in DOCUMENTS for why, _, _ in _blocks(document) if why)
    assert found == LEFT_OUT


@pytest.mark.parametrize("document", ["README.md", "docs/quickstart.md", "docs/tutorial.md"])
def test_no_block_of_the_first_pages_is_passed_over(document: str) -> None:
    """Blocks that show what is printed, or install, are `text`; the README has `make` besides."""
    text = (ROOT / document).read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)$", text, re.MULTILINE)[::2]
    shown = len([kind for kind in fences if kind == "text"])
    others = len(re.findall(r"^```\n(?:make|pip) ", text, re.MULTILINE))
    assert len(_blocks(document)) == len(fences) - shown - others


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
    assert ran > 0 or all(why for why, _, _ in _blocks(document))

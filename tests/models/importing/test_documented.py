"""The commands and the Python of docs/import.md, run on a tiny folder of sentence-transformers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from puma_cli.cli.app import run
from tests.models.importing.builders import sentence_transformer
from tests.models.importing.test_sentence_transformers import ASK
from tests.models.importing.texts import text_data

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "import.md"
BLOCK = re.compile(r"```(python|)\n(.*?)```", re.DOTALL)


def test_everything_in_the_document_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ask = {"query": ASK["query"].replace("Find the picture", "Given a web search query, retrieve "
           "relevant passages that answer the query"), "document": ""}  # fmt: skip
    sentence_transformer(tmp_path / "embedder", prompts=ask)
    text_data(tmp_path / "data")
    ran = []
    for kind, body in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(body, str(DOCUMENT), "exec"), {})
            ran.append(kind)
        elif body.startswith("puma "):
            for line in body.splitlines():
                assert run(shlex.split(line)[1:]) == 0, line
                ran.append(line)
        else:
            # What it prints is what it says.
            said = " ".join(capsys.readouterr().out.split())
            for line in body.splitlines():
                assert " ".join(line.split()) in said, line
    assert len(ran) == 5

"""`puma embed` and `puma search` as they are typed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from puma_cli.cli.app import run
from tests.searching.conftest import Make


def test_embed_then_search(
    tiny_checkpoint: Path, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    words = ["embed", str(tiny_checkpoint), str(shop / "things.jsonl"), "-o", str(index)]
    assert run([*words, "--device", "cpu"]) == 0
    out = capsys.readouterr()
    assert f"Index: {index}" in out.out
    assert f"puma search {tiny_checkpoint} --index {index}" in out.err
    assert run([*words, "--device", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["embedded"], told["skipped"]) == (40, 0, 0)
    ask = ["search", str(tiny_checkpoint), "--index", str(index), "--device", "cpu"]
    assert run([*ask, "red thing", "-k", "3"]) == 0
    shown = capsys.readouterr().out
    assert "thing-" in shown and "score" in shown
    assert run([*ask, "red thing", "kind 4", "-k", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["query"]["text"] for answer in found["answers"]] == ["red thing", "kind 4"]
    assert [len(answer["hits"]) for answer in found["answers"]] == [3, 3]
    assert found["exact"] is True and found["vectors"] == 40
    assert set(found["answers"][0]["hits"][0]) == {
        "rank",
        "score",
        "id",
        "text",
        "image",
        "metadata",
    }
    assert run(["info", str(index), "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["kind"] == "index of vectors" and "puma search" in known["next"]
    assert run([*ask, "red thing", "-k", "2", "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_queries_from_a_file(
    tiny_checkpoint: Path,
    make_index: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shop: Path,
) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(
        json.dumps({"qid": "q7", "query_txt": "red"})
        + "\n"
        + json.dumps({"qid": "q8", "query_img_path": str(shop / "4.png")})
        + "\n"
    )
    ask = ["search", str(tiny_checkpoint), "--index", str(make_index()), "--device", "cpu"]
    assert run([*ask, "--queries", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["query"]["id"] for answer in found["answers"]] == ["q7", "q8"]
    assert run([*ask, "--queries", str(path), "more"]) == 2
    (tmp_path / "none.txt").write_text("\n")
    assert run([*ask, "--queries", str(tmp_path / "none.txt")]) == 2
    assert "holds no query" in capsys.readouterr().err


def test_a_page_holds_its_pictures(
    tiny_checkpoint: Path,
    make_index: Make,
    shop: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "found.html"
    ask = ["search", str(tiny_checkpoint), "--index", str(make_index()), "--device", "cpu"]
    ask += ["--image", str(shop / "8.png"), "<b>red</b>", "-k", "40", "--html", str(page)]
    assert run(ask) == 0
    text = page.read_text(encoding="utf-8")
    # The query and the ten of forty that have one.
    assert text.count("data:image/") == 11
    assert "&lt;b&gt;red&lt;/b&gt;" in text and "<b>" not in text
    assert "http" not in text.replace("http://www.w3.org", "")
    # A page of its own is replaced by the next, and nothing else unasked.
    assert run(ask) == 0
    page.write_text("a letter")
    assert run(ask) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert page.read_text() == "a letter"
    assert run([*ask, "--overwrite"]) == 0


def test_a_picture_that_went_is_said_on_the_page(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 40), "red").save(tmp_path / "photos" / f"{name}.png")
    index, page = str(tmp_path / "index"), tmp_path / "found.html"
    words = ["embed", str(tiny_checkpoint), str(tmp_path / "photos"), "-o", index]
    assert run([*words, "--device", "cpu"]) == 0
    (tmp_path / "photos" / "a.png").unlink()
    ask = ["search", str(tiny_checkpoint), "--index", index, "red", "--html", str(page)]
    assert run([*ask, "--device", "cpu"]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/") == 1 and "a.png cannot be shown" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["search", "MODEL", "--index", "INDEX"], 2, "no query"),
        (["search", "MODEL", "red"], 2, "index"),
        (["search", "MODEL", "--index", "gone", "red"], 1, "does not exist"),
        (["search", "MODEL", "--index", "INDEX", "--image", "gone.png"], 2, "gone.png"),
        (["search", "gone", "--index", "INDEX", "red"], 1, "gone"),
        (["embed", "MODEL"], 2, "Missing: INPUT"),
        (["embed", "MODEL", "gone.txt"], 1, "gone.txt does not exist"),
        (["embed", "MODEL", "x.txt", "--dtype", "int8"], 2, "--store-dtype int8"),
        (["embed", "MODEL", "x.txt", "--format", "nyp"], 2, "npy"),
    ],
)
def test_slips_are_explained(
    tiny_checkpoint: Path,
    make_index: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("one\n")
    names = {"MODEL": str(tiny_checkpoint), "INDEX": str(make_index())}
    assert run([names.get(word, word) for word in words]) == code
    assert said in capsys.readouterr().err


def test_a_prompt_answers_one_query_after_the_other(
    tiny_checkpoint: Path, make_index: Make, shop: Path
) -> None:
    leader, follower = pty.openpty()
    words = ["search", str(tiny_checkpoint), "--index", str(make_index()), "-k", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "puma_cli", *words, "--device", "cpu", "--quiet"],
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(follower)
    typed = f"kind 3\n@gone.png\n@{shop / '8.png'} a thing of kind 8 in red\n\n"
    os.write(leader, typed.encode())
    out, err = process.communicate(timeout=120)
    os.close(leader)
    assert process.returncode == 0, err
    lines = out.splitlines()
    # A file that is not there does not end it.
    assert len(lines) == 2 and lines[1] == "thing-8"

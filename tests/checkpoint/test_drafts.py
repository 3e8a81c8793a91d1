"""Runs that were killed cost nothing: what they left goes, what they were replacing comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from puma_cli.checkpoint import drafts
from puma_cli.checkpoint.output_folder import check_space, new_folder
from puma_cli.errors import OutputError

WRITER = """
import sys, time
from pathlib import Path
from puma_cli.checkpoint.output_folder import new_folder
with new_folder(sys.argv[1]) as draft:
    (draft / "half.txt").write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""
# Replaces a result and dies at the n-th step that changes a name.
REPLACER = """
import os, sys
from pathlib import Path
import shutil
from puma_cli.checkpoint.output_folder import new_folder

left = int(sys.argv[2])

def dying(step, after):
    def run(*given, **options):
        global left
        left -= 1
        if left == 0 and not after:
            os._exit(9)
        result = step(*given, **options)
        if left == 0:
            os._exit(9)
        return result
    return run

after = sys.argv[3] == "after"
for owner, name in ((Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree")):
    setattr(owner, name, dying(getattr(owner, name), after))
with new_folder(sys.argv[1], overwrite=True) as draft:
    (draft / "puma.json").write_text('"new"')
    (draft / "more").write_text("new")
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, content: str) -> None:
    folder.mkdir()
    for name in ("puma.json", "more"):
        (folder / name).write_text(content)


def start_writer(target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    with start_writer(tmp_path / "out") as process:
        process.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 2
    assert all(name.startswith(".out.partial-") for name in names(tmp_path))
    with new_folder(tmp_path / "out") as draft:
        (draft / "whole.txt").touch()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["whole.txt"]


def test_what_a_live_run_writes_is_left_alone(tmp_path: Path) -> None:
    with start_writer(tmp_path / "out") as process:
        with new_folder(tmp_path / "out") as draft:
            (draft / "mine.txt").touch()
        assert len([name for name in names(tmp_path) if name.startswith(".out.partial-")]) == 2
        _, talk = process.communicate("go on\n")
        assert "is not empty" in talk
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["mine.txt"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_replacement_killed_at_any_step_loses_nothing(tmp_path: Path, moment: str) -> None:
    for step in range(1, 20):
        room = tmp_path / str(step)
        room.mkdir()
        target = room / "out"
        write(target, '"old"')
        command = [sys.executable, "-c", REPLACER, str(target), str(step), moment]
        code = subprocess.run(command, check=False).returncode
        if target.exists():
            assert {(target / name).read_text() for name in names(target)} in (
                {'"old"'},
                {'"new"', "new"},
            )
            assert names(target) == ["more", "puma.json"]
        # The next run finds one of the two versions whole, and nothing of its own doing left over.
        with pytest.raises(OutputError, match="not empty"), new_folder(target):
            pass
        assert names(target) == ["more", "puma.json"]
        with new_folder(target, overwrite=True) as draft:
            (draft / "last").touch()
        assert names(room) == ["out"]
        assert names(target) == ["last"]
        if code == 0:
            assert step > 5
            return
    pytest.fail("no run got to its end")


def test_a_replaced_result_without_a_successor_comes_back(tmp_path: Path) -> None:
    write(tmp_path / ".out.old-00000001", "old")
    write(tmp_path / ".out.partial-00000001", "half")
    with pytest.raises(OutputError, match="not empty"), new_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "more").read_text() == "old"


def test_look_alikes_are_not_cleaned_up(tmp_path: Path) -> None:
    kept = [
        ".out.partial-1",
        ".out.partial-0000000g",
        ".other.partial-00000001",
        ".out.old-00000001x",
    ]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / ".out.partial-00000002").symlink_to("precious")
    with new_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == sorted([*kept, "out", "precious", ".out.partial-00000002"])


def test_without_file_locks_the_owners_number_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "fcntl", None)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    owners = {"live": f"{os.getpid()} {host}", "dead": f"{gone.pid} {host}", "far": "1 elsewhere"}
    for number, owner in enumerate(owners.values()):
        (tmp_path / f".out.partial-0000000{number}").mkdir()
        (tmp_path / f".out.partial-0000000{number}.lock").write_text(owner)
    with new_folder(tmp_path / "out"):
        pass
    left = [name for name in names(tmp_path) if not name.endswith(".lock")]
    assert left == [".out.partial-00000000", ".out.partial-00000002", "out"]


def test_a_linked_file_keeps_its_mode_and_others_get_ordinary_ones(tmp_path: Path) -> None:
    parent = tmp_path / "parent.safetensors"
    parent.touch()
    parent.chmod(0o640)
    with new_folder(tmp_path / "out") as draft:
        (draft / "a.safetensors").hardlink_to(parent)
        (draft / "b.safetensors").touch(mode=0o600)
    assert parent.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "out" / "b.safetensors").stat().st_mode & 0o777 != 0o600


def test_many_files_are_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("file"))
    monkeypatch.setattr(os, "sync", lambda: calls.append("disk"))
    monkeypatch.setattr(drafts, "_MANY", 3)
    for count in (3, 4):
        (tmp_path / str(count)).mkdir()
        for number in range(count):
            (tmp_path / str(count) / str(number)).touch()
    drafts.sync(tmp_path / "3")
    assert calls == ["file"] * 4
    drafts.sync(tmp_path / "4")
    assert calls == ["file"] * 4 + ["disk"]


def test_too_little_space_is_told_with_both_numbers(tmp_path: Path) -> None:
    check_space(tmp_path / "a" / "b", 1)
    with pytest.raises(OutputError, match=r"needs 1e\+06 GB|needs 1000000 GB") as caught:
        check_space(tmp_path / "a" / "b", 10**15)
    assert "1000000000000000 bytes against" in caught.value.cause
    assert not (tmp_path / "a").exists()

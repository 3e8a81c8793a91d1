"""Results appear whole under their name or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from puma_cli.checkpoint.output_folder import check_free, new_folder, write_json, write_text
from puma_cli.errors import NumericError, OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_success_puts_the_folder_under_its_name_and_nothing_else(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "out") as draft:
        (draft / "x.txt").write_text("x")
        assert not (tmp_path / "a" / "out").exists()
    assert names(tmp_path / "a") == ["out"]
    assert names(tmp_path / "a" / "out") == ["x.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, failure: type[BaseException]) -> None:
    def write_half() -> None:
        with new_folder(tmp_path / "a" / "b" / "out") as draft:
            (draft / "half.txt").write_text("x")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert names(tmp_path) == []


def test_an_existing_empty_folder_is_used_and_survives_a_failure(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out"):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["out"]
    with new_folder(tmp_path / "out") as draft:
        (draft / "x.txt").write_text("x")
    assert names(tmp_path / "out") == ["x.txt"]


def test_a_folder_with_content_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="not empty") as caught, new_folder(tmp_path / "out"):
        pytest.fail("the body must not run")
    assert "--overwrite" in caught.value.hint
    assert names(tmp_path) == ["out"]


def test_overwrite_replaces_an_own_result_only_on_success(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_folder(out) as draft:
        write_json(draft / "puma.json", {"command": "prune"})
    with pytest.raises(RuntimeError), new_folder(out, overwrite=True):
        raise RuntimeError
    assert names(out) == ["puma.json"]
    with new_folder(out, overwrite=True) as draft:
        write_text(draft / "new.txt", "x")
    assert names(out) == ["new.txt"]
    assert names(tmp_path) == ["out"]


def test_overwrite_spares_what_puma_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    with (
        pytest.raises(OutputError, match="not written by puma"),
        new_folder(tmp_path / "home", overwrite=True),
    ):
        pytest.fail("the body must not run")
    assert names(tmp_path / "home") == ["thesis.tex"]


def test_overwrite_spares_a_home_that_happens_to_hold_a_training_folder(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="not written by puma"):
        check_free(tmp_path, overwrite=True)
    (tmp_path / "training" / "settings.json").write_text("{}")
    check_free(tmp_path, overwrite=True)


@pytest.mark.parametrize("inner", [".", "data", "a/link"])
def test_overwrite_spares_what_the_result_is_made_from(tmp_path: Path, inner: str) -> None:
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "puma.json").write_text("{}")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(out / "data")
    source = tmp_path / inner if inner.startswith("a/") else out / inner
    with (
        pytest.raises(OutputError, match="which the result is made from"),
        new_folder(out, overwrite=True, inputs=[tmp_path / "elsewhere", source]),
    ):
        pytest.fail("the body must not run")
    assert names(out) == ["data", "puma.json"]


def test_a_file_and_the_current_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"), new_folder(tmp_path / "file"):
        pass
    with pytest.raises(OutputError, match="is a file"), new_folder(tmp_path / "file" / "out"):
        pass
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="current folder"), new_folder("."):
        pass
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(OutputError, match="holds the current folder"), new_folder(".."):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError('IoError(Os { code: 28, message: "No space left on device" })'),
    ],
)
def test_a_full_disk_is_named_and_nothing_stays(tmp_path: Path, error: Exception) -> None:
    def fill_disk() -> None:
        with new_folder(tmp_path / "out") as draft:
            (draft / "half.txt").write_text("x")
            raise error

    with pytest.raises(OutputError, match="disk is full"):
        fill_disk()
    assert names(tmp_path) == []


def test_a_real_full_device_is_named(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OutputError, match="disk is full"), new_folder(tmp_path / "out"):
        Path("/dev/full").write_text("x")


def test_an_unwritable_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="cannot be written"), new_folder(tmp_path / "out"):
        pass


def test_a_name_that_no_file_system_takes_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), new_folder(tmp_path / ("a" * 250)):
        pass
    assert names(tmp_path) == []


def test_an_error_of_the_body_about_other_files_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "out"):
        Path("/no/such/file").read_text()


def test_an_input_beside_the_output_that_cannot_be_read_is_not_blamed_on_it(
    tmp_path: Path,
) -> None:
    beside = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "data" / "a.png"))
    with pytest.raises(PermissionError), new_folder(tmp_path / "out"):
        raise beside


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def be_overtaken() -> None:
        with new_folder(tmp_path / "out"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs.txt").write_text("x")

    with pytest.raises(OutputError, match="not empty"):
        be_overtaken()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["theirs.txt"]


def test_weights_get_ordinary_permissions(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as draft:
        (draft / "model.safetensors").touch(mode=0o600)
        (draft / "plain.txt").touch()
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert len(modes) == 1


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"name": "é", "n": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "name": "é",\n  "n": 1\n}\n'
    with pytest.raises(NumericError, match=r"a\.json"):
        write_json(path, {"loss": float("nan")})
    assert '"n": 1' in path.read_text(encoding="utf-8")
    assert names(tmp_path) == ["a.json"]

"""The built wheel holds all it needs and works outside the clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from puma_cli.version import __version__

pytest.importorskip("hatchling")
pytest.importorskip("build")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_everything_in_the_package_is_in_the_wheel(wheel: Path) -> None:
    package = ROOT / "puma_cli"
    inside = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert inside <= names
    assert "puma_cli/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests") for name in names)


def test_the_wheel_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    printed = {
        words: subprocess.check_output(
            [sys.executable, "-m", "puma_cli", *words.split()],
            text=True,
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        for words in ("--version", "recipes ls --quiet")
    }
    assert printed["--version"] == f"puma {__version__}\n"
    assert "demo" in printed["recipes ls --quiet"].split()
    script = "import puma_cli; print(puma_cli.__file__)"
    where = subprocess.check_output([sys.executable, "-c", script], text=True, env=environment)
    assert where.startswith(str(target))

"""The command line starts without the heavy packages, and so does `import puma_cli`."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "numpy", "matplotlib", "peft", "accelerate", "yaml", "rich")

SCRIPT = """
import sys
from puma_cli.cli.app import run
code = run(sys.argv[1:])
print("loaded", *(name for name in {heavy!r} if name in sys.modules))
sys.exit(code)
"""


@pytest.mark.parametrize(
    "args",
    ["--help", "--version", "distill --help", "data scenes --help", "prune --x"],
)
def test_nothing_heavy_is_loaded(args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), *args.split()],
        capture_output=True,
        text=True,
    )
    assert done.returncode == (2 if "--x" in args else 0), done.stderr
    assert done.stdout.splitlines()[-1] == "loaded"


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "puma_cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("puma ")
    assert done.stderr == ""


def test_output_to_a_closed_pipe_ends_quietly() -> None:
    done = subprocess.run(
        f"{sys.executable} -m puma_cli recipes show demo | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("#")
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr

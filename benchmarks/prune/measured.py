"""Running whole processes one after another: seconds, peak memory, and where they ran."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PUMA = Path(sys.executable).with_name("puma")
_WORDS = 400  # of a failed command's output


@dataclass
class Way:
    """One way to do the work, with what its runs took.

    Args:
        command: the process, whose `{out}` stands for the folder to write.
        note: for the table.
        model: the checkpoint that it cuts, if it does.
        seconds: of each run; where the process reports its own, those.
        durable: the same until what the run wrote is on the disk.
        memory: peak resident bytes of each run, the process alone.
        failure: why it is not in the comparison.
    """

    name: str
    command: Sequence[str]
    note: str = ""
    model: Path | None = None
    seconds: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    failure: str = ""

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    def run(self, out: Path, *, own_clock: bool = False) -> None:
        """Run it once, writing to `out`, which is removed before.

        Args:
            own_clock: the process prints its seconds itself.
        """
        shutil.rmtree(out, ignore_errors=True)
        # What the last run left in the cache must not be written in this one's time.
        os.sync()
        command = [part.replace("{out}", str(out)) for part in self.command]
        with tempfile.TemporaryFile("w+") as output:
            began = time.perf_counter()
            process = subprocess.Popen(command, stdout=output, stderr=output, env=_environment())
            _, status, usage = os.wait4(process.pid, 0)
            took = time.perf_counter() - began
            os.sync()
            flushed = time.perf_counter() - began - took
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            text = output.read()
        if process.returncode:
            self.failure = f"exit {process.returncode}: {text[-_WORDS:].strip()}"
            return
        self.seconds.append(float(text) if own_clock else took)
        self.durable.append(self.seconds[-1] + flushed)
        self.memory.append(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def _environment() -> dict[str, str]:
    # Installed programs start from compiled bytecode; a developer's shell may forbid its writing.
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "HF_HUB_OFFLINE": "1"}


def alternate(ways: Sequence[Way], rounds: int, out: Path, own_clock: frozenset[str]) -> None:
    """Run every way once a round, each round beginning with another one.

    Args:
        own_clock: names of the ways whose processes print their seconds.
    """
    for number in range(rounds):
        first = number % len(ways)
        for way in [*ways[first:], *ways[:first]]:
            if way.failure:
                continue
            way.run(out, own_clock=way.name in own_clock)
            shown = way.failure or f"{way.seconds[-1]:.2f} s, {way.memory[-1] / 1e6:.0f} MB"
            print(f"round {number + 1}: {way.name}: {shown}", file=sys.stderr, flush=True)
    shutil.rmtree(out, ignore_errors=True)


def warm(folder: Path) -> None:
    """Read a folder's files once, so that they are in the cache."""
    buffer = bytearray(8 << 20)
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def make_stand_in(name: str, folder: Path) -> Path:
    """Make a stand-in in `folder` if it is not there yet; return its own folder.

    It is made by another process: a child's peak memory counts from its parent's.
    """
    path = folder / name
    if not path.is_dir():
        command = [sys.executable, str(HERE / "stand_ins.py"), name, str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def tensor_bytes(folder: Path) -> int:
    """Return the number of bytes of a checkpoint's weight files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def machine(folder: Path) -> str:
    """Say on what machine and file system the runs were."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, {file_system(folder)}, Python {platform.python_version()}"
    )


def file_system(folder: Path) -> str:
    """Return the kind of file system that a folder is on, where the system tells."""
    mounts = Path("/proc/self/mountinfo")
    if not mounts.exists():
        return "unknown file system"
    best = ("", "unknown file system")
    for line in mounts.read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if folder.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, right.split()[0])
    return best[1]


def versions(python: Path, *packages: str) -> dict[str, str]:
    """Return the versions of packages in another interpreter's environment, if they are there."""
    code = (
        "import json, sys\n"
        "from importlib.metadata import PackageNotFoundError, version\n"
        "found = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        found[name] = version(name)\n"
        "    except PackageNotFoundError:\n"
        "        pass\n"
        "print(json.dumps(found))\n"
    )
    run = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True)
    return dict(json.loads(run.stdout)) if not run.returncode else {}


def publish(lines: Sequence[str], path: Path | None) -> None:
    """Print a fragment of Markdown, or write it to `path`."""
    text = "\n".join(lines) + "\n"
    if path is None:
        print(text)
    else:
        path.write_text(text, encoding="utf-8")

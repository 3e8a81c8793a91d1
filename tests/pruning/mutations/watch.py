"""What Python opens, changes and runs while a checkpoint is being cut."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import puma_cli

_CHANGES = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link",
    "os.chmod", "os.chown", "os.utime", "shutil.rmtree",
}  # fmt: skip
_RUNS = {
    "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class",
    "socket.connect", "socket.getaddrinfo",
}  # fmt: skip
# Where Python itself and the packages read from, and the system tells of the machine.
_READ = tuple(
    os.path.realpath(place)
    for place in {
        *sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, "/proc", "/sys", "/usr",
        "/etc", str(Path(puma_cli.__file__).parents[1]),
    }
)  # fmt: skip


class Watch:
    """An audit hook that notes what leaves the folders it is told; one serves a whole process."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._rooms: tuple[str, ...] = ()
        self._own: str = ""
        sys.addaudithook(self._hear)

    @contextmanager
    def over(self, parent: Path, results: Path) -> Iterator[list[str]]:
        """Note, while the body runs, all that is opened or changed outside the two folders."""
        self.faults = []
        self._own = os.path.realpath(parent)
        self._rooms = (self._own, os.path.realpath(results))
        try:
            yield self.faults
        finally:
            self._rooms = ()

    def _hear(self, event: str, details: tuple[Any, ...]) -> None:
        if not self._rooms:
            return
        if event == "open":
            path, _, flags = details
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            self._judge(event, path, bool(writes))
        elif event in ("os.listdir", "os.scandir"):
            self._judge(event, details[0], False)
        elif event == "os.truncate" or (event in _CHANGES and details[-1] in (-1, None)):
            # Names relative to an open folder are in that folder, which was judged.
            for path in details[:2] if event in ("os.rename", "os.link") else details[:1]:
                self._judge(event, path, True)
        elif event == "os.symlink":
            self._judge(event, details[1], True)
        elif event in _RUNS:
            self.faults.append(f"{event} {details}")
        elif event == "exec":
            name = getattr(details[0], "co_filename", "")
            if _inside(os.path.realpath(name), (self._own,)):
                self.faults.append(f"code of the checkpoint was run: {name}")

    def _judge(self, event: str, path: Any, writes: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a handle that was judged when it was opened
        name = Path(os.fsdecode(path))
        # What is removed or renamed is a link itself, what is opened is where it leads.
        opened = event in ("open", "os.listdir", "os.scandir")
        place = os.path.realpath(name if opened else name.parent)
        if _inside(place, self._rooms) or str(name) == os.devnull:
            return
        if writes and "__pycache__" not in name.parts:
            self.faults.append(f"{event} for writing: {name}")
        elif not writes and not _inside(place, _READ):
            self.faults.append(f"{event}: {name}")


def _inside(path: str, rooms: tuple[str, ...]) -> bool:
    return any(path == room or path.startswith(room + os.sep) for room in rooms)

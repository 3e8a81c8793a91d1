"""How much memory is left to this process, on the machine and in its container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
# Of both versions of Linux's control groups: folder, limit, use, and what of it can be taken back.
_SECOND = ("", "memory.max", "memory.current", ("active_file", "inactive_file"))
_FIRST = (
    "memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)


def free_memory() -> int:
    """Return how many bytes this process may still take.

    A container or a batch job may have less than its machine, and is killed beyond that.
    """
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *left_in_groups()]))


def left_in_groups(groups: Path = _GROUPS, own: Path = _OWN) -> Iterator[int]:
    """Yield what each of this process's control groups that has a limit leaves, in bytes.

    Args:
        groups: where the system shows its groups; elsewhere than on Linux there is none.
        own: the file that names the process's own.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, limit, use, cached = _FIRST if controllers else _SECOND
        place = Path(path.strip("/"))
        # The limits of those around a group hold for it too. Inside a container the path may be
        # that of the host, and the container's own group is then at the top.
        for group in (place, *place.parents):
            try:
                inside = groups / folder / group
                most = int((inside / limit).read_text(encoding="ascii"))
                used = int((inside / use).read_text(encoding="ascii"))
                pairs = (inside / "memory.stat").read_text(encoding="ascii").splitlines()
                found = dict(pair.split(maxsplit=1) for pair in pairs)
                yield most - used + sum(int(found.get(name, 0)) for name in cached)
            except (OSError, ValueError):
                continue  # not there, or without a limit

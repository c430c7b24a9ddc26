"""Compare what work will need with what this machine has, before the work starts.

Nothing here is exact. A need is a lower estimate, so that only work is refused that cannot succeed.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.errors import PipelineError

ROOT = Path("/")
# Where control groups are, and the files with their limit and usage: of version 2, and of version 1.
GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def need_disk(path: Path, size: int, what: str, remedy: str | None = None) -> None:
    """Return if `size` bytes fit on the disk of `path`, which need not exist yet.

    Args:
        path: the file or folder to write.
        size: its bytes.
        what: the name of the work, such as `features.stft`. The message begins with it.
        remedy: what to do if the disk has less, if anything besides freeing space.

    Raises PipelineError with both numbers if the disk has less.
    """
    place = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(place).free
    if size > free:
        raise PipelineError(
            f"{what} needs {_readable(size)} for {path}, but its disk has {_readable(free)} free:"
            f" free some space, of which data/kept may have some{f', or {remedy}' if remedy else ''}"
        )


def need_memory(size: int, what: str, remedy: str, *, held: int = 0) -> None:
    """Return if this machine has `size` bytes of memory, of which the work already holds `held`.

    The other arguments are those of `need_disk`. Raises PipelineError with both numbers if it has less.
    """
    free = free_memory() + held
    if size > free:
        raise PipelineError(
            f"{what} needs {_readable(size)} of memory, but {_readable(free)} are free: {remedy}, or use a"
            " machine with more memory"
        )


def free_memory() -> int:
    """Return how many bytes of memory this process can still take.

    On Linux, the limits of containers and batch jobs count too.
    """
    import psutil

    return min([psutil.virtual_memory().available, *_free_in_groups()])


def _free_in_groups(root: Path = ROOT) -> Iterator[int]:
    """Yield the bytes that each control group of this process has left.

    See https://docs.kernel.org/admin-guide/cgroup-v2.html#memory and cgroup-v1/memory.html.
    """
    groups = root / "proc/self/cgroup"
    lines = groups.read_text(encoding="utf-8").splitlines() if groups.exists() else []
    for _, controllers, name in (line.split(":", 2) for line in lines):
        for controller in GROUPS.keys() & controllers.split(","):
            mount, limit, usage = GROUPS[controller]
            group = root / mount / name.strip("/")
            for folder in (group, *group.parents):
                with suppress(OSError, ValueError):  # without a limit, or outside of the container
                    left = int((folder / limit).read_text()) - int((folder / usage).read_text())
                    yield max(0, left + _cached(folder))


def _cached(group: Path) -> int:
    """Return the bytes of files that the system keeps in memory, and gives up if a process needs it."""
    cached = {"inactive_file": 0, "active_file": 0}
    with suppress(OSError):
        for name, number in map(str.split, (group / "memory.stat").read_text().splitlines()):
            key = name.removeprefix("total_")  # of version 1: with the groups in this one
            if key in cached:
                cached[key] = int(number)
    return sum(cached.values())


def _readable(size: int) -> str:
    """Return a number of bytes as a person reads it, such as 93.1 GB."""
    power = next((power for power in range(len(UNITS)) if size < 1000 ** (power + 1)), len(UNITS) - 1)
    return f"{size / 1000**power:.1f} {UNITS[power]}" if power else f"{size} B"

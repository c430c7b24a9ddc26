"""What the benchmarks share: a folder of clips, the stages run in it, and medians."""

import argparse
import contextlib
import importlib
import io
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
DEFAULT = ROOT.parent / "shared" / "data" / "speech_commands_8words.zip"

import numpy as np


def arguments(description: str, **defaults: int) -> argparse.Namespace:
    """Return the command line: --archive, and an integer option for each of `defaults`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--archive", type=Path, default=DEFAULT, help="a zip of WAV files by label")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    return parser.parse_args()


def machine() -> str:
    """Return what the figures were measured on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return f"{name}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


@contextlib.contextmanager
def folder(archive: Path, clips: int) -> Iterator[Path]:
    """A project's folder with `clips` clips in data/raw, the working directory meanwhile.

    The archive's clips are taken again and again under other names until there are enough, the last
    bits of each repetition's samples changed, so that no two files are alike.
    """
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(archive) as source:
        files = sorted(n for n in source.namelist() if n.endswith(".wav") and "__MACOSX" not in n)
        for number in range(clips):
            file = files[number % len(files)]
            content = bytearray(source.read(file))
            again = number // len(files)
            content[44:48] = (int.from_bytes(content[44:48], "little") ^ again).to_bytes(4, "little")
            path = Path(name) / "data/raw" / Path(file).parent.name / f"{again}-{Path(file).name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        shutil.copy(ROOT / "params.yaml", name)
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(here)


def stage(command: str) -> None:
    """Run a stage, as in dvc.yaml, in this process, without its output."""
    name, *args = command.split()
    module = importlib.import_module(f"pipeline.stages.{name}")
    argv, sys.argv = sys.argv, [name, *args]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            module.main()
    finally:
        sys.argv = argv


def forget() -> None:
    """Delete every output, and what was kept of earlier runs."""
    for path in ("data/kept", "data/features"):
        shutil.rmtree(path, ignore_errors=True)
    for path in ("data/waveforms.h5", "data/clips.csv", "data/rejects.csv"):
        Path(path).unlink(missing_ok=True)


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes, with nothing left to be written to disk from before."""
    os.sync()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds, of user and system, that `work` takes in this process, from a clean disk."""
    os.sync()
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def alternate(
    sides: dict[str, Callable[[], object]], rounds: int, before: Callable[[], object]
) -> dict[str, list[float]]:
    """Return the seconds of each of `sides`, run in turn, `rounds` times; a line for each round.

    `before` each it cleans up, which is not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            before()
            times[name].append(seconds(side))
        print(
            f"round {number + 1}: " + ", ".join(f"{name} {times[name][-1]:.2f} s" for name in sides),
            flush=True,
        )
    return times


def table(times: dict[str, list[float]], clips: int, ours: str) -> None:
    """Print medians, clips per second, and how many times as fast `ours` is, by the median of ratios."""
    print(f"\n| side | median s | clips/s | {ours} is faster by |\n|---|---|---|---|")
    for name, each in times.items():
        ratio = statistics.median(np.array(each) / np.array(times[ours]))
        median = statistics.median(each)
        print(f"| {name} | {median:.2f} | {clips / median:,.0f} | {ratio:.1f} |")

"""Options, a folder of clips, the stages that run in it, and tables, for all benchmarks.

Run each benchmark from the project's root folder: `python -m benchmarks.features --archive ZIP`.
"""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.corpus.members import Member
from pipeline.corpus.paths import LEFT_OUT
from pipeline.learning.batches import Subset, select_rows
from pipeline.store.layout import Store
from pipeline.store.previous import FOLDER as KEPT

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT.parent / "shared" / "data" / "speech_commands_8words.zip"


def arguments(description: str, **defaults: float | Sequence[str]) -> argparse.Namespace:
    """Return the command line: --archive, and an option for each of `defaults`.

    An option has its default's type: a number, or names with commas between them.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--archive",
        type=Path,
        default=DEFAULT,
        help="zip of WAV files in <label>/<file>; default %(default)s",
    )
    for name, value in defaults.items():
        if isinstance(value, int | float):
            parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value}")
        else:
            names = ",".join(value)
            parser.add_argument(f"--{name}", type=_names, default=list(value), help=f"default {names}")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return text.split(",")


def machine() -> str:
    """Return the processor, the number of cores, and the version of Python."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return f"{name}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


@contextlib.contextmanager
def folder(archive: Path, clips: int, *, sample_rate: int = 22050, duration: float = 0.8) -> Iterator[Path]:
    """Yield a project's folder with `clips` clips in data/raw. It is the current folder during the block.

    If the archive has too few clips, they are used again under other names. Each repetition changes the
    first samples of a clip, so that no two files are equal. By default, the waveforms are the notebook's:
    0.8 s at 22,050 Hz.
    """
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(archive) as source:
        files = sorted(n for n in source.namelist() if n.endswith(".wav") and "__MACOSX" not in n)
        for number in range(clips):
            file = files[number % len(files)]
            content = bytearray(source.read(file))
            repetition = number // len(files)
            first = int.from_bytes(content[44:48], "little") ^ repetition  # after the header of a WAV file
            content[44:48] = first.to_bytes(4, "little")
            path = Path(name) / "data/raw" / Path(file).parent.name / f"{repetition}-{Path(file).name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        LEFT_OUT.write(Path(name, "data/left_out.csv"), [])
        yaml = YAML()
        parameters = yaml.load(ROOT / "params.yaml")
        parameters["audio"].update(sample_rate=sample_rate, duration=duration)
        yaml.dump(parameters, Path(name, "params.yaml"))
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(here)


def clips_of(store: Store, rows: Sequence[int] | None = None) -> Subset:
    """Return the clips of `store` with these `rows`, or all clips. Their labels are their folders."""
    joined = [Member(clip, clip.partition("/")[0], "train", noise=False) for clip in store.clips]
    return select_rows(store, joined, range(len(joined)) if rows is None else rows)


def stage(command: str) -> None:
    """Run a stage, such as `featurize stft`, in this process, and hide what it prints."""
    name, *args = command.split()
    module = importlib.import_module(f"pipeline.stages.{name}")
    argv, sys.argv = sys.argv, [name, *args]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            module.main()
    finally:
        sys.argv = argv


def best_feature(name: str) -> str:
    """Return the feature on which the model `name` is most accurate."""
    return {"cnn": "mfcc", "speech": "speech"}.get(name, "logmel")


def compute_best_features(models: Sequence[str]) -> None:
    """Compute the best feature of each of `models`, from data/raw."""
    stage("decode")
    for feature in sorted({best_feature(name) for name in models}):
        stage(f"featurize {feature}")


def forget() -> None:
    """Delete every output, and what previous runs kept."""
    for path in (KEPT, "data/features"):
        shutil.rmtree(path, ignore_errors=True)
    for path in ("data/waveforms.h5", "data/clips.csv", "data/rejects.csv"):
        Path(path).unlink(missing_ok=True)


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes. It starts when all earlier writes are on disk."""
    os.sync()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds, user and system, that `work` takes in this process."""
    os.sync()
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def alternate(
    sides: Mapping[str, Callable[[], object]], rounds: int, before: Callable[[], object]
) -> dict[str, list[float]]:
    """Run all `sides` in turn, `rounds` times; return the seconds of each, and print a line per round.

    `before` is called before each side and is not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            before()
            times[name].append(seconds(side))
        cells = ", ".join(f"{name} {values[-1]:.2f} s" for name, values in times.items())
        print(f"round {number + 1}: {cells}", flush=True)
    return times


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(_ratios(numerator, denominator))


def spread(numerator: Sequence[float], denominator: Sequence[float]) -> str:
    """Return two cells of a table: the median of the rounds' ratios, and their range."""
    ratios = _ratios(numerator, denominator)
    return f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f}"


def _ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def table(times: Mapping[str, list[float]], clips: int, ours: str) -> None:
    """Print the median time of each side, its clips per second, and its time as a multiple of `ours`."""
    print(f"\n| way | median s | clips/s | times as slow as {ours} |\n|---|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.2f} | {clips / median:,.0f} | {ratio(values, times[ours]):.1f} |")

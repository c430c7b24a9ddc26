"""Kill every stage at random moments, and look at what is left: `make faults`.

Each stage runs as DVC runs it, in a clone with a small archive. After a random time it gets a signal: SIGINT
as from Ctrl-C, which all its processes get; or SIGTERM or SIGKILL, which only the stage itself gets, as when
memory runs out. Then each output must be whole or absent, and no process may live on. At the end, `dvc repro`
must give the bytes of an undisturbed run, and leave nothing unfinished.
"""

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from ruamel.yaml import YAML

from tests.project import Project, fresh_environment

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# A process that lives so many seconds longer than its stage is an orphan.
PATIENCE = 60.0
# What Python prints if Ctrl-C ends it before it runs any file of a program: that it cannot start, and why; or
# a traceback of runpy and the import system, whose modules are frozen.
CANNOT_START = r"(?:Fatal Python error: init_.*\nPython runtime state: .*|Could not import runpy module)\n"
FRAMES = r"Traceback \(most recent call last\):\n(?: .*\n|\n)*"
# A worker prints this if its stage is killed before the worker has any work.
WITHOUT_WORK = rf"LokyProcess-\d+ failed with traceback: \n-+\n{FRAMES}EOFError: Ran out of input\n"
STARTING = re.compile(
    rf"{CANNOT_START}(?:{FRAMES}\w.*\n\nDuring handling .*\n\n)*{FRAMES}KeyboardInterrupt\n"
    r'|Traceback \(most recent call last\):\n(?:  File "<frozen .*\n)+KeyboardInterrupt\n'
    rf"|{WITHOUT_WORK}"
)


@dataclass(frozen=True)
class Stage:
    """A stage as dvc.lock describes it."""

    name: str
    command: list[str]
    outputs: list[str]


class Outcome(NamedTuple):
    """How a stage ended."""

    was_killed: bool  # rather than that it had already ended
    lost: list[str]  # what is wrong


class Faults:
    """A project that has run, and how its files were then."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.lock = self._lock()
        stages = YAML(typ="safe").load(self.lock)["stages"]
        self.stages = [
            Stage(name, stages[name]["cmd"].split(), [out["path"] for out in stages[name]["outs"]])
            for name in project.run("dvc", "stage", "list", "--name-only").split()
        ]
        self.expected = self.digests(output for stage in self.stages for output in stage.outputs)

    def _lock(self) -> str:
        return (self.project.path / "dvc.lock").read_text(encoding="utf-8")

    def digests(self, outputs: Iterable[str]) -> dict[str, str]:
        """Return the md5 of each file in `outputs`, by its path in the project."""
        files: list[Path] = []
        for path in (self.project.path / output for output in outputs):
            files += sorted(path.rglob("*")) if path.is_dir() else [path]
        return {
            file.relative_to(self.project.path).as_posix(): hashlib.md5(file.read_bytes()).hexdigest()
            for file in files
            if file.is_file()
        }

    def run(
        self,
        stage: Stage,
        end: signal.Signals | None = None,
        seconds: float | None = None,
        *,
        until: Callable[[], bool] | None = None,
    ) -> "Outcome":
        """Delete the stage's outputs and run it. Then send it the signal `end`.

        That is after so many `seconds`, or when `until` returns True.
        """
        for output in stage.outputs:
            _delete(self.project.path / output)
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                [sys.executable, *stage.command[1:]],
                cwd=self.project.path,
                env=fresh_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            while until and process.poll() is None and not until():
                time.sleep(0.01)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0 if until else seconds)
            is_stopped = process.poll() is None
            if is_stopped and end is not None:
                os.killpg(process.pid, end) if end == signal.SIGINT else process.send_signal(end)
            lost = [f"{orphan} lived on" for orphan in _orphans(process)]
            log.seek(0)
            printed = log.read().decode(errors="replace")
        if has_traceback(printed) or (process.returncode and not is_stopped):
            lost.append(printed[-2000:])
        found = self.digests(stage.outputs)
        for output in stage.outputs:
            left, whole = (_below(output, files) for files in (found, self.expected))
            if left != whole and (left or not is_stopped):
                lost.append(f"{output} is neither whole nor absent")
        return Outcome(is_stopped, lost)

    def recover(self) -> list[str]:
        """Run what `make run` runs, and return what differs from a project that was never disturbed."""
        self.project.repro()
        self.project.run(sys.executable, "-m", "pipeline", "check")
        found = self.digests(output for stage in self.stages for output in stage.outputs)
        lost = [f"{name} has other bytes" for name in self.expected if found.get(name) != self.expected[name]]
        lost += [f"{name} is new" for name in found if name not in self.expected]
        lost += [f"{path} is left" for path in self.project.path.rglob(".unfinished")]
        return lost + (["dvc.lock has changed"] if self._lock() != self.lock else [])

    def kill(self, stage: Stage, end: signal.Signals, times: int, moments: Iterator[float]) -> list[str]:
        """Run the stage until it was ended so many `times`, at `moments` in seconds; return what is lost.

        Every other time, it cannot copy what the previous run has kept.
        """
        lost, killed = [], 0
        while killed < times:
            if killed % 2:
                for kept in (self.project.path / "data/kept").glob("[!t]*"):  # not the training's state
                    shutil.rmtree(kept)
            outcome = self.run(stage, end, next(moments))
            killed += outcome.was_killed
            lost += outcome.lost
        return lost + self.recover()


def has_traceback(printed: str) -> bool:
    """Return whether `printed` has a traceback that counts.

    That of a Python which Ctrl-C ends before it runs any file of the project or of a library does not, and
    that of a worker whose stage is killed while it starts.
    """
    return "Traceback" in STARTING.sub("", printed)


def _below(output: str, files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if Path(name).is_relative_to(output)}


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _orphans(process: "subprocess.Popen[bytes]") -> list[str]:
    """Wait for all processes in the session of `process`. Kill and return those that live on."""
    limit = time.monotonic() + PATIENCE
    while living := _living(process):
        if time.monotonic() > limit:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return living
        time.sleep(0.05)
    return []


def _living(process: "subprocess.Popen[bytes]") -> list[str]:
    process.poll()  # or it would stay as a zombie
    living = []
    for other in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                living.append(" ".join(other.cmdline())[:200])
    return living


def _moments(generator: np.random.Generator, longest: float) -> Iterator[float]:
    while True:
        yield generator.uniform(0, longest)


def main() -> None:
    """Kill the stages, and print a table of what was tried and lost."""
    options = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    options.add_argument("--times", type=int, default=20, help="for each stage and signal")
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    options.add_argument("stages", nargs="*", help="default: all")
    arguments = options.parse_args()
    # A shell starts programs in the background so that they, and those that they start, ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    generator = np.random.default_rng(arguments.seed)
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder, "project"))
        project.repro()
        faults = Faults(project)
        print("stage                killed  lost")
        for stage in faults.stages:
            if arguments.stages and stage.name not in arguments.stages:
                continue
            start = time.monotonic()
            lost = faults.run(stage).lost
            moments = _moments(generator, time.monotonic() - start)
            for end in SIGNALS:
                lost += faults.kill(stage, end, arguments.times, moments)
            print(f"{stage.name:<20} {len(SIGNALS) * arguments.times:>6} {len(lost):>5}", flush=True)
            for problem in lost:
                print(f"  {problem}", flush=True)
            total += len(lost)
    sys.exit(total > 0)


if __name__ == "__main__":
    main()

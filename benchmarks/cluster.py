"""Measure what dask costs the machine that runs a stage: CPU per clip, and speed compared with local workers.

A scheduler and two workers run as processes of their own on this machine, in folders without the project.
Each stage runs on them and on this machine's cores in turn, after a run of each that is not counted.

    python -m benchmarks.cluster --archive ZIP
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import cloudpickle
from distributed import Client

from benchmarks.common import arguments, folder, forget, machine, ratio, stage
from pipeline import parallel
from pipeline.corpus.audio import decode

STAGES = ("decode", "featurize stft", "featurize mfcc")
BACKENDS = ("dask", "loky")


def start(stack: contextlib.ExitStack, scheduler_file: Path, name: str, *args: str) -> None:
    """Start `dask scheduler` or `dask worker` in a folder of its own, and end it with `stack`."""
    cwd = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    dask = str(Path(sys.executable).with_name("dask"))
    command = [dask, name, "--scheduler-file", str(scheduler_file), "--no-dashboard", *args]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def main() -> None:
    """Run each stage on both backends in turn, and print a table."""
    args = arguments(str(__doc__), clips=3276, rounds=5)
    print(machine())
    work = partial(decode, sample_rate=22050, duration=0.8, padding="edge")
    code = cloudpickle.dumps(parallel._elsewhere(work))
    print(f"code sent with each task: {len(code) / 1e3:.1f} kB")
    with contextlib.ExitStack() as stack:
        scheduler_file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "scheduler.json"
        start(stack, scheduler_file, "scheduler", "--host", "127.0.0.1", "--port", "0")
        for name in ("a", "b"):
            start(stack, scheduler_file, "worker", "--nthreads", "1", "--name", name)
        with Client(scheduler_file=str(scheduler_file)) as client:
            client.wait_for_workers(2)
            os.environ["PIPELINE_SCHEDULER"] = client.scheduler.address
        stack.enter_context(folder(args.archive, args.clips))
        seconds: dict[tuple[str, str], list[float]] = {}
        cpus: dict[str, list[float]] = {}
        for number in range(args.rounds + 1):
            for backend in BACKENDS:
                os.environ["PIPELINE_BACKEND"] = backend
                forget()
                for name in STAGES:
                    wall, cpu = time.perf_counter(), time.process_time()
                    stage(name)
                    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                    if number:
                        seconds.setdefault((name, backend), []).append(wall)
                    if number and backend == "dask":
                        cpus.setdefault(name, []).append(cpu)
    print(
        "| stage | dask, clips/s | this machine's cores, clips/s | dask is times as fast"
        " | CPU of the client, ms a clip |\n|---|---|---|---|---|"
    )
    for name in STAGES:
        dask, local = (seconds[name, backend] for backend in BACKENDS)
        rates = " | ".join(f"{args.clips / statistics.median(values):,.0f}" for values in (dask, local))
        cost = statistics.median(cpus[name]) / args.clips * 1e3
        print(f"| {name} | {rates} | {ratio(local, dask):.2f} | {cost:.2f} |")


if __name__ == "__main__":
    main()

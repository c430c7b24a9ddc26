"""What a clip costs the machine that runs a stage, where dask's workers elsewhere compute: CPU and bytes.

The scheduler and two workers are processes of their own, in folders of their own, on this machine.
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

from common import arguments, folder, forget, machine, stage

import cloudpickle
from distributed import Client

from pipeline import parallel
from pipeline.corpus.audio import decode

STAGES = ("decode", "featurize stft", "featurize mfcc")


def start(stack: contextlib.ExitStack, where: Path, name: str, *args: str) -> None:
    """Start one of dask's processes in a folder of its own."""
    cwd = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    command = [str(Path(sys.executable).with_name("dask")), name, "--scheduler-file", str(where), *args]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def main() -> None:
    """Run each stage on the cluster, again and again, and print the client's CPU a clip."""
    args = arguments(str(__doc__), clips=3276, rounds=5)
    print(machine())
    work = partial(decode, sample_rate=22050, duration=0.8, padding="edge")
    print(f"code sent with each task: {len(cloudpickle.dumps(parallel._elsewhere(work))) / 1e3:.1f} kB")
    with contextlib.ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "scheduler.json"
        start(stack, where, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        for name in ("a", "b"):
            start(stack, where, "worker", "--nthreads", "1", "--no-dashboard", "--name", name)
        while not where.exists():
            time.sleep(0.1)
        with Client(scheduler_file=str(where)) as client:
            client.wait_for_workers(2)
            os.environ["PIPELINE_SCHEDULER"] = client.scheduler.address
        os.environ["PIPELINE_BACKEND"] = "dask"
        stack.enter_context(folder(args.archive, args.clips))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in STAGES}
        for _ in range(args.rounds):
            forget()
            for name, found in times.items():
                wall, cpu = time.perf_counter(), time.process_time()
                stage(name)
                found.append((time.perf_counter() - wall, time.process_time() - cpu))
    print("| stage | clips/s | client's CPU, ms a clip |\n|---|---|---|")
    for name, found in times.items():
        wall, cpu = (statistics.median(each) / args.clips for each in zip(*found, strict=True))
        print(f"| {name} | {1 / wall:,.0f} | {cpu * 1e3:.2f} |")


if __name__ == "__main__":
    main()

"""Time and memory of the stages as the clips grow in number, each stage in a process of its own.

Seconds are those that the stage prints, without its start; memory is the peak of all its processes
together, pages that they share counted once (PSS), sampled every 20 ms.
"""

import os
import re
import shutil
import subprocess
import sys
import time

from common import ROOT, arguments, folder, machine

import numpy as np
import psutil

STAGES = ("decode", "featurize stft", "featurize mfcc")


def measure(command: str) -> tuple[float, float, float]:
    """Return a stage's seconds, those of its whole process, and its peak of memory in MiB."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", *f"pipeline.stages.{command}".split()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for each in (root, *children(root)):
            try:
                total += each.memory_full_info().pss
            except psutil.Error:
                continue
        peak = max(peak, total)
        time.sleep(0.02)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    found = re.search(r"clips in ([\d.]+) s", output)
    assert found, output
    return float(found[1]), time.perf_counter() - start, peak / 2**20


def children(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes that `process` started; none where it has ended."""
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def main() -> None:
    """Measure at several numbers of clips and fit a line."""
    args = arguments(str(__doc__), most=30000)
    print(machine())
    numbers = [args.most // 10, args.most // 4, args.most // 2, args.most]
    print("| clips | " + " | ".join(f"{stage}: s, MiB" for stage in STAGES) + " | all, s |")
    print("|---|" + "---|" * (len(STAGES) + 1))
    totals = []
    for number in numbers:
        with folder(args.archive, number):
            found = [measure(command) for command in STAGES]
            shutil.rmtree("data")
        totals.append(sum(seconds for seconds, _, _ in found))
        cells = " | ".join(f"{seconds:.1f}, {memory:.0f}" for seconds, _, memory in found)
        print(f"| {number:,} | {cells} | {totals[-1]:.1f} |", flush=True)
    slope, offset = np.polyfit(numbers, totals, 1)
    error = np.abs(np.polyval([slope, offset], numbers) - totals).max()
    r2 = np.corrcoef(numbers, totals)[0, 1] ** 2
    print(f"fit: {slope * 1e3:.3f} ms a clip + {offset:.2f} s; R² {r2:.5f}, farthest point {error:.2f} s off")


if __name__ == "__main__":
    main()

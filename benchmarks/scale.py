"""Measure time and memory of the stages as the number of clips grows.

Each stage runs in a process of its own. Seconds are those that the stage prints, without the start of Python.
Memory is the peak of all its processes together, sampled every 20 ms. Pages that they share count once (PSS).

    python -m benchmarks.scale --archive ZIP
"""

import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import psutil

from benchmarks.common import ROOT, arguments, folder, machine

STAGES = ("decode", "featurize stft", "featurize mfcc")
# The sizes to measure, as parts of the largest.
PARTS = (10, 4, 2, 1)


def measure(command: str) -> tuple[float, float]:
    """Return the seconds of a stage, and its peak of memory in MiB."""
    process = subprocess.Popen(
        [sys.executable, "-m", *f"pipeline.stages.{command}".split()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    root, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, sum(memory(member) for member in (root, *children(root))))
        time.sleep(0.02)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    printed = re.search(r"clips in ([\d.]+) s", output)
    assert printed, output
    return float(printed[1]), peak / 2**20


def children(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes that `process` started, or none if it has ended."""
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def memory(process: psutil.Process) -> int:
    """Return the memory of `process` in bytes, or 0 if it has ended."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def main() -> None:
    """Measure several numbers of clips, and fit a line."""
    args = arguments(str(__doc__), most=30000, sizes=len(PARTS))
    print(machine())
    numbers = [args.most // part for part in PARTS[-args.sizes :]]
    print("| clips | " + " | ".join(f"{stage}: s, MiB" for stage in STAGES) + " | all, s |")
    print("|---|" + "---|" * (len(STAGES) + 1))
    totals, peaks = [], []
    for number in numbers:
        with folder(args.archive, number):
            measured = [measure(command) for command in STAGES]
            shutil.rmtree("data")
        totals.append(sum(seconds for seconds, _ in measured))
        peaks.append(max(peak for _, peak in measured))
        cells = " | ".join(f"{seconds:.1f}, {peak:.0f}" for seconds, peak in measured)
        print(f"| {number:,} | {cells} | {totals[-1]:.1f} |", flush=True)
    slope, offset = np.polyfit(numbers, totals, 1)
    error = np.abs(np.polyval([slope, offset], numbers) - totals).max()
    r2 = np.corrcoef(numbers, totals)[0, 1] ** 2
    print(f"{numbers[-1] / numbers[0]:.1f} times the clips: {peaks[-1] / peaks[0]:.2f} times the memory")
    print(
        f"line: {slope * 1e3:.3f} ms a clip + {offset:.2f} s; R² {r2:.5f}, farthest point {error:.2f} s off"
    )


if __name__ == "__main__":
    main()

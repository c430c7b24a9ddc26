"""Time the stages when 1 % of the clips are new, against a full run, a copy of the files, and 8 clips.

Seconds are those of PIPELINE_JOBS workers. CPU seconds are those of one job, which other work on the machine
disturbs less.

    python -m benchmarks.growth --archive ZIP
"""

import math
import os
import shutil
import statistics
from pathlib import Path

import numpy as np

from benchmarks.common import arguments, cpu, folder, forget, machine, seconds, stage, table
from pipeline.store.previous import FOLDER as KEPT

STAGES = ("decode", "featurize stft", "featurize logmel", "featurize mfcc")
FEW = 8


def run() -> None:
    """Run every stage."""
    for command in STAGES:
        stage(command)


def copy() -> None:
    """Copy the finished stores. This is the time to write their bytes."""
    for store in Path("data").rglob("*.h5"):
        if not store.is_relative_to(KEPT):
            target = "copies" / store
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(store, target)


def run_on_few() -> None:
    """Run every stage on at most 8 clips. This is the time that every run needs."""
    Path("data/raw").rename("all")
    clips = sorted(Path("all").glob("*/*"))
    for clip in clips[:: math.ceil(len(clips) / FEW)]:
        link = Path("data/raw") / clip.relative_to("all")
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(clip, link)
    run()
    shutil.rmtree("data/raw")
    Path("all").rename("data/raw")


def prepare() -> int:
    """Run every stage on 99 % of the clips, save what they keep in `before`, and return how many are new."""
    new = sorted(Path("data/raw").glob("*/*"))[::100]
    hidden = [(file, Path("hidden") / str(number)) for number, file in enumerate(new)]
    Path("hidden").mkdir()
    for file, place in hidden:
        file.rename(place)
    forget()
    run()
    shutil.copytree(KEPT, "before", copy_function=os.link)
    for file, place in hidden:
        place.rename(file)
    return len(new)


def main() -> None:
    """Time all sides in turn. Each run with new clips starts from `before`."""
    args = arguments(str(__doc__), clips=3276, rounds=5)
    print(machine())
    with folder(args.archive, args.clips):
        new = prepare()
        sides = {"all clips new": run, "1 % new": run, "cp": copy, "8 clips": run_on_few}
        times: dict[str, list[float]] = {name: [] for name in sides}
        cpus: dict[str, list[float]] = {name: [] for name in sides}
        jobs = os.environ.get("PIPELINE_JOBS", "")
        for _ in range(args.rounds):
            for measure, measured, os.environ["PIPELINE_JOBS"] in ((seconds, times, jobs), (cpu, cpus, "1")):
                for name, side in sides.items():
                    if name == "cp":  # it copies what the side before it wrote
                        shutil.rmtree("copies", ignore_errors=True)
                    else:
                        forget()
                    if name == "1 % new":
                        shutil.copytree("before", KEPT, copy_function=os.link)
                    measured[name].append(measure(side))
    print(f"{new} of {args.clips} clips are new")
    for unit, measured in (("seconds", times), ("CPU seconds", cpus)):
        print(f"\nin {unit}:")
        table(measured, args.clips, "1 % new")
        full, few, start, copied = (
            np.array(measured[name]) for name in ("all clips new", "1 % new", "8 clips", "cp")
        )
        for name, values in (("1 % new", few - start), ("cp", copied)):
            share = statistics.median(values / (full - start))
            print(f"{name} takes {share:.1%} of a full run, without the time for 8 clips")


if __name__ == "__main__":
    main()

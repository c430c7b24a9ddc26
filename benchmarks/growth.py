"""1 % more clips: stages that copy what they know against the same from nothing, a bare copy, and 8 clips.

In seconds, with the workers that PIPELINE_JOBS says, and in CPU seconds of one job, which other work on the
machine disturbs less.
"""

import os
import shutil
import statistics
from pathlib import Path

from common import arguments, cpu, folder, forget, machine, seconds, stage, table

import numpy as np

from pipeline.store import previous

STAGES = ("decode", "featurize stft", "featurize logmel", "featurize mfcc")


def run() -> None:
    """Every stage."""
    for command in STAGES:
        stage(command)


def copy() -> None:
    """Copy the finished stores: what writing their bytes costs, without any work."""
    for store in Path("data").rglob("*.h5"):
        if "kept" not in store.parts:
            target = "copies" / store
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(store, target)


def start() -> None:
    """Every stage on 8 clips: what they cost before the first of many."""
    Path("data/raw").rename("all")
    for clip in sorted(Path("all").glob("*/*"))[::410]:
        place = Path("data/raw") / clip.parent.name / clip.name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(clip, place)
    run()
    shutil.rmtree("data/raw")
    Path("all").rename("data/raw")


def main() -> None:
    """Measure in turn; before each incremental run, what a run on 99 % of the clips left is put back."""
    args = arguments(str(__doc__), clips=3276, rounds=5)
    print(machine())
    with folder(args.archive, args.clips):
        new = sorted(Path("data/raw").glob("*/*"))[::100]
        away = [(file, Path("away") / f"{number}") for number, file in enumerate(new)]
        Path("away").mkdir()
        for file, place in away:
            file.rename(place)
        forget()
        run()
        shutil.copytree(previous.KEPT, "before", copy_function=os.link)
        for file, place in away:
            place.rename(file)

        sides = {"from nothing": run, "1 % new": run, "cp": copy, "start": start}
        times: dict[str, list[float]] = {name: [] for name in sides}
        cpus: dict[str, list[float]] = {name: [] for name in sides}
        jobs = os.environ.get("PIPELINE_JOBS", "")
        for _ in range(args.rounds):
            for measure, into, os.environ["PIPELINE_JOBS"] in ((seconds, times, jobs), (cpu, cpus, "1")):
                for name, side in sides.items():
                    if name == "cp":  # of what the side before wrote
                        shutil.rmtree("copies", ignore_errors=True)
                    else:
                        forget()
                    if name == "1 % new":
                        shutil.copytree("before", previous.KEPT, copy_function=os.link)
                    into[name].append(measure(side))
    print(f"{len(new)} of {args.clips} clips are new")
    for kind, found in (("time", times), ("CPU time", cpus)):
        table(found, args.clips, "1 % new")
        for name in ("1 % new", "cp"):
            few, whole, none = (np.array(found[side]) for side in (name, "from nothing", "start"))
            share = statistics.median((few - none * (name != "cp")) / (whole - none))
            print(f"beyond the start, {name} takes {share:.1%} of the {kind} from nothing")


if __name__ == "__main__":
    main()

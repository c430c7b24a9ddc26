"""1 % more clips: stages that copy what they know against the same from nothing, a bare copy, and 8 clips."""

import os
import shutil
import statistics
from pathlib import Path

from common import arguments, folder, forget, machine, seconds, stage, table

from pipeline.store import kept

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
        shutil.copytree(kept.KEPT, "before", copy_function=os.link)
        for file, place in away:
            place.rename(file)

        times: dict[str, list[float]] = {"from nothing": [], "1 % new": [], "cp": [], "start": []}
        for _ in range(args.rounds):
            forget()
            times["from nothing"].append(seconds(run))
            forget()
            shutil.copytree("before", kept.KEPT, copy_function=os.link)
            times["1 % new"].append(seconds(run))
            shutil.rmtree("copies", ignore_errors=True)
            times["cp"].append(seconds(copy))
            forget()
            times["start"].append(seconds(start))
    print(f"{len(new)} of {args.clips} clips are new")
    table(times, args.clips, "1 % new")
    all_new, few_new, none = (statistics.median(times[name]) for name in ("from nothing", "1 % new", "start"))
    share = (few_new - none) / (all_new - none)
    print(f"beyond the start, 1 % new takes {share:.0%} of the time from nothing")


if __name__ == "__main__":
    main()

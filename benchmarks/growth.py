"""1 % more clips: stages that copy what they know against the same from nothing, and a bare copy, in turn."""

import shutil
from pathlib import Path

from common import alternate, arguments, folder, forget, machine, stage, table

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
        shutil.copytree(kept.KEPT, "before")
        for file, place in away:
            place.rename(file)

        times: dict[str, list[float]] = {"from nothing": [], "1 % new": [], "cp": []}
        for _ in range(args.rounds):
            forget()
            times["from nothing"] += alternate({"from nothing": run}, 1)["from nothing"]
            forget()
            shutil.copytree("before", kept.KEPT)
            times["1 % new"] += alternate({"1 % new": run}, 1)["1 % new"]
            shutil.rmtree("copies", ignore_errors=True)
            times["cp"] += alternate({"cp": copy}, 1)["cp"]
    print(f"{len(new)} of {args.clips} clips are new")
    table(times, args.clips, "1 % new")


if __name__ == "__main__":
    main()

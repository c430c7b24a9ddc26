"""data/clips.csv → data/split.csv: which clip is for training, validation, test."""

from pathlib import Path

from pipeline import params
from pipeline.corpus import clips, splits
from pipeline.errors import run


def main() -> None:
    """Split the clips and print how many of each label went to each side."""
    found = clips.read(Path("data/clips.csv"))
    sides = splits.split(found, params.read("split", splits.Split))
    splits.write(Path("data/split.csv"), found, sides)
    print(splits.table(found, sides))
    nameless = sum(clip.speaker == clip.clip for clip in found)
    if nameless:
        print(
            f"{nameless} of {len(found)} clips tell no speaker by params.yaml: clips.speaker: each counts as"
            " one of its own, and may be a person who is on another side"
        )
    straddling = splits.straddling_copies(found, sides)
    if straddling:
        print(f"{straddling} recordings have exact copies on another side: split.method hash goes by name")


if __name__ == "__main__":
    run(main)

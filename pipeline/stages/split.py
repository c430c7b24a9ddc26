"""data/clips.csv → data/split.csv: split the clips into train, val and test."""

from pathlib import Path

from pipeline import params
from pipeline.corpus import clips, splits
from pipeline.errors import run


def main() -> None:
    """Split the clips, and print how many clips of each label are in each split."""
    rows = clips.read(Path("data/clips.csv"))
    assigned = splits.split(rows, params.read("split", splits.Split))
    splits.write(Path("data/split.csv"), rows, assigned)
    print(splits.format_table(rows, assigned))
    unmatched = sum(clip.speaker == clip.clip for clip in rows)
    if unmatched:
        print(
            f"{unmatched} of {len(rows)} clips do not match params.yaml: clips.speaker: each counts as its"
            " own speaker, so one person may be in two splits"
        )
    straddling = splits.count_straddling_copies(rows, assigned)
    if straddling:
        print(
            f"{straddling} recordings have exact copies in more than one split: to keep copies together, set"
            " params.yaml: split.method to stratified"
        )


if __name__ == "__main__":
    run(main)

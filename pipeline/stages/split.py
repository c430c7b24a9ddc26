"""data/clips.csv → data/split.csv: give each clip its label in the task, and its split."""

from pathlib import Path

from pipeline import params
from pipeline.corpus import clips, members, splits
from pipeline.corpus.clips import Clip
from pipeline.corpus.members import SILENCE
from pipeline.corpus.splits import Split
from pipeline.corpus.task import Task, shortages
from pipeline.errors import PipelineError, run

RAW = Path("data/raw")


def main() -> None:
    """Split the clips, and print how many clips of each label are in each split."""
    rows = clips.read(Path("data/clips.csv"))
    settings = params.read("split", Split)
    task = params.read("task", Task)
    lists = _lists(rows, settings) if settings.method == "list" else {}
    joined = splits.split(rows, settings, task, params.read("clips.recordings", list[str]), lists)
    members.write(Path("data/split.csv"), joined)
    print(splits.format_table(rows, joined))
    for message in shortages(joined, task):
        print(message)
    spoken = [clip for clip, member in zip(rows, joined, strict=True) if member.label not in ("", SILENCE)]
    unmatched = sum(clip.speaker == clip.clip for clip in spoken)
    if unmatched:
        print(
            f"{unmatched} of {len(spoken)} clips have no speaker by params.yaml: clips.speaker: each counts"
            " as its own speaker, so one person may be in two splits"
        )
    for keys, problem in (
        ([clip.speaker for clip in rows], "speakers have clips"),
        ([clip.md5 for clip in rows], "recordings have exact copies"),
    ):
        straddling = splits.count_straddling(keys, joined)
        if straddling and not (settings.group_by == "clip" and problem.startswith("speakers")):
            print(
                f"{straddling} {problem} in more than one split: to keep them together, set params.yaml:"
                " split.method to stratified"
            )


def _lists(rows: list[Clip], settings: Split) -> dict[str, set[str]]:
    """Return the ids in each list of `settings`. Raises PipelineError if a list names no clip."""
    lists: dict[str, set[str]] = {}
    known = {clip.clip for clip in rows}
    for name, path in settings.lists.items():
        ids = lists[name] = clips.read_list(RAW, path)
        if not ids & known:
            example = f" such as {min(ids)}" if ids else ""
            raise PipelineError(
                f"params.yaml: split.lists.{name}, {path}, has {len(ids)} names{example}, but"
                f" none is a clip, such as {rows[0].clip}: use a list of paths below the archive's top folder"
            )
        if ids - known:
            others = sorted(ids - known)
            print(f"{len(others):,} of {len(ids):,} names in {path} are no clips, such as {others[0]}")
    return lists


if __name__ == "__main__":
    run(main)

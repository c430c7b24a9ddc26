"""A run's data, examples, model and scores → results/report.html: one page that opens from disk."""

from pathlib import Path
from typing import Any

from pipeline import params
from pipeline.corpus import clips, members
from pipeline.corpus.clips import Naming
from pipeline.errors import run
from pipeline.files import atomic_write
from pipeline.report.page import Report, Run, page
from pipeline.store.current import open_current
from pipeline.store.layout import digests

CLIPS = Path("data/clips.csv")
PAGE = Path("results/report.html")
LARGE = 15_000_000  # bytes


def main() -> None:
    """Write the page."""
    section = dict[str, Any]
    dataset = params.read("dataset", params.Name)
    feature = params.read("feature", params.Name)
    model = params.read("model", params.Name)
    settings = params.read("report", Report)
    shown = {
        "dataset": dataset,
        f"datasets.{dataset}": params.read(f"datasets.{dataset}", section),
        "extract": params.read("extract", section),
        "clips": params.read("clips", section),
        "audio": params.read("audio", section),
        "task": params.read("task", section),
        "split": params.read("split", section),
        "feature": feature,
        "model": model,
        f"models.{model}": params.read(f"models.{model}", section),
        "train": params.read("train", section),
        "examples": params.read("examples", section),
        "report": settings.model_dump(),
    }
    waveforms = open_current(Path("data/waveforms.h5"), None)
    recorded = clips.read(CLIPS, ids=waveforms.clips)
    clips.check(CLIPS, recorded, params.read("clips", Naming))
    this_run = Run(
        params=shown,
        clips=recorded,
        clips_checksum=digests([CLIPS.read_bytes()])[0].tobytes().hex(),
        members=members.read(Path("data/split.csv"), ids=waveforms.clips),
        rejects=clips.REJECTS.read(Path("data/rejects.csv")),
        waveforms=waveforms,
        feature=open_current(Path(f"data/features/{feature}.h5"), feature, same_clips_as=waveforms),
        results=Path("results"),
    )
    with atomic_write(PAGE) as part:
        part.write_text(page(this_run, settings), encoding="utf-8")
        size = part.stat().st_size
    print(f"{PAGE}: {size / 1e6:.1f} MB")
    if size > LARGE:
        print(f"above {LARGE / 1e6:.0f} MB a page opens slowly: lower audio.duration or report.mistakes")


if __name__ == "__main__":
    run(main)

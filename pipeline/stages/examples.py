"""data: clips.csv, waveforms.h5, features → results/examples: a clip of each label, seen and heard."""

from pathlib import Path
from typing import Any

from pipeline import params
from pipeline.corpus import clips
from pipeline.errors import run
from pipeline.files import atomic_write
from pipeline.progress import Progress
from pipeline.report import examples
from pipeline.store.current import open_current


def main() -> None:
    """Draw the chosen clips and their features, and make them audible."""
    settings = params.read("examples", examples.Examples)
    names = params.read("features", dict[str, Any])
    waveforms = open_current(Path("data/waveforms.h5"), None)
    label_of = {clip.clip: clip.label for clip in clips.read(Path("data/clips.csv"), ids=waveforms.clips)}
    labels = [label_of[clip] for clip in waveforms.clips]
    features = [
        open_current(Path(f"data/features/{name}.h5"), name, same_clips_as=waveforms) for name in names
    ]
    with (
        atomic_write(Path("results/examples")) as part,
        Progress(len(set(labels)), "clips", "examples") as bar,
    ):
        for _ in examples.write(part, waveforms, labels, features, settings):
            bar.update(1)


if __name__ == "__main__":
    run(main)

"""data/waveforms.h5 + data/features → results/examples: a clip of each label, to look at and listen to."""

from pathlib import Path
from typing import Any

from pipeline import params
from pipeline.errors import run
from pipeline.files import replacing
from pipeline.progress import Progress
from pipeline.report import examples
from pipeline.store.layout import checked


def main() -> None:
    """Draw the chosen clips and their features, and make these heard."""
    how = params.read("examples", examples.Examples)
    names = params.read("features", dict[str, Any])
    waveforms = checked(Path("data/waveforms.h5"), None)
    features = [checked(Path(f"data/features/{name}.h5"), name, beside=waveforms) for name in names]
    with (
        replacing(Path("results/examples")) as part,
        Progress(len(waveforms.labels), "clips", "examples") as bar,
    ):
        for _ in examples.write(part, waveforms, features, how):
            bar.update(1)


if __name__ == "__main__":
    run(main)

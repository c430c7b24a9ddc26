"""data/waveforms.h5 → data/features/<feature>.h5. The feature is named on the command line."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline import params
from pipeline.errors import PipelineError, run
from pipeline.features import Feature, Kernel
from pipeline.store.layout import Rows, checked
from pipeline.store.previous import Kept
from pipeline.store.reader import Place, place
from pipeline.store.writer import Work, write


def main() -> None:
    """Compute one feature of every clip."""
    if len(sys.argv) != 2:
        raise PipelineError("expected one argument, a name under features in params.yaml")
    name = sys.argv[1]
    kept = Kept(f"featurize-{name}")
    feature = params.read(f"features.{name}", Feature.named(name))
    waveforms = checked(Path("data/waveforms.h5"), None)
    sample_rate, samples = waveforms.params["audio"]["sample_rate"], waveforms.shape[1]
    mistakes = feature.mistakes(sample_rate, samples)
    if mistakes:
        raise PipelineError("\n".join(mistakes))
    described = {"name": name, "magnitudes": feature.magnitudes, **feature.model_dump()}
    path = Path(f"data/features/{name}.h5")
    write(
        path,
        Work(partial(_read, place(waveforms)), partial(_compute, feature.kernel(sample_rate))),
        range(len(waveforms.clips)),
        clips=waveforms.clips,
        row_shape=feature.shape(samples),
        dtype=feature.dtype,
        params={**waveforms.params, "feature": described},
        verb=f"featurize {name}",
        sources=waveforms.checksums,
        known=kept.store(path.name),
    )
    kept.keep([path])


def _read(waveforms: Place, rows: Sequence[int]) -> Rows:
    first, last = rows[0], rows[-1]
    return waveforms.read(first, last + 1) if last - first + 1 == len(rows) else waveforms.rows()[list(rows)]


def _compute(kernel: Kernel, waveforms: Rows) -> tuple[Rows, list[None]]:
    return kernel(waveforms), [None] * len(waveforms)


if __name__ == "__main__":
    run(main)

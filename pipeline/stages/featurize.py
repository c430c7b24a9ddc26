"""data/waveforms.h5 → data/features/<feature>.h5. The feature is named on the command line."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline import features, params
from pipeline.errors import PipelineError, run
from pipeline.features import Feature, Kernel
from pipeline.store import kept
from pipeline.store.layout import Rows, check, describe
from pipeline.store.reader import Place, place
from pipeline.store.writer import Work, write


def main() -> None:
    """Compute one feature of every clip."""
    if len(sys.argv) != 2:
        raise PipelineError("expected one argument, a name under features in params.yaml")
    name = sys.argv[1]
    feature = params.read(f"features.{name}", Feature.named(name))
    waveforms = check(describe(Path("data/waveforms.h5")), params.load())
    _, samples = waveforms.shape
    shape = feature.shape(samples)
    if min(shape) < 1:
        raise PipelineError(features.too_short(name, samples))
    described = {"name": name, "magnitudes": feature.magnitudes, **feature.model_dump()}
    kernel = feature.kernel(waveforms.params["audio"]["sample_rate"])
    path = Path(f"data/features/{name}.h5")
    last = kept.find(f"featurize-{name}")
    write(
        path,
        Work(partial(_read, place(waveforms)), partial(_compute, kernel)),
        range(len(waveforms.clips)),
        clips=waveforms.clips,
        row_shape=shape,
        dtype=feature.dtype,
        params={**waveforms.params, "feature": described},
        verb=f"featurize {name}",
        sources=waveforms.checksums,
        known=describe(last / path.name) if last else None,
    )
    kept.keep(f"featurize-{name}", [path])


def _read(waveforms: Place, rows: Sequence[int]) -> Rows:
    mapped, first, last = waveforms.rows(), rows[0], rows[-1]
    return mapped[first : last + 1] if last - first + 1 == len(rows) else mapped[list(rows)]


def _compute(kernel: Kernel, waveforms: Rows) -> tuple[Rows, list[None]]:
    return kernel(waveforms), [None] * len(waveforms)


if __name__ == "__main__":
    run(main)

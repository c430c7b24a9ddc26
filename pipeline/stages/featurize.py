"""data/waveforms.h5 → data/features/<feature>.h5. The feature is named on the command line."""

import sys
from functools import partial
from pathlib import Path

from pipeline import features, params
from pipeline.errors import PipelineError, run
from pipeline.features import Feature, Kernel
from pipeline.store import writer
from pipeline.store.layout import Rows, Store, describe
from pipeline.store.reader import rows


def main() -> None:
    """Compute one feature of every clip."""
    if len(sys.argv) != 2:
        raise PipelineError("expected one argument, a name under features in params.yaml")
    name = sys.argv[1]
    feature = params.read(f"features.{name}", Feature.named(name))
    waveforms = describe(Path("data/waveforms.h5"))
    _, samples = waveforms.shape
    shape = feature.shape(samples)
    if min(shape) < 1:
        raise PipelineError(features.too_short(name, samples))
    described = {"name": name, "magnitudes": feature.magnitudes, **feature.model_dump()}
    writer.write(
        Path(f"data/features/{name}.h5"),
        partial(_compute, feature.kernel(waveforms.params["audio"]["sample_rate"]), waveforms),
        clips=waveforms.clips,
        row_shape=shape,
        params={**waveforms.params, "feature": described},
        verb=f"featurize {name}",
    )


def _compute(kernel: Kernel, waveforms: Store, start: int, stop: int) -> tuple[Rows, None]:
    return kernel(rows(waveforms)[start:stop]), None


if __name__ == "__main__":
    run(main)

"""data/waveforms.h5 → data/features/<feature>.h5. The feature is named on the command line."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline import params
from pipeline.errors import PipelineError, run
from pipeline.features import Feature, Kernel
from pipeline.store import capacity
from pipeline.store.current import open_current
from pipeline.store.layout import Rows
from pipeline.store.previous import PreviousRun
from pipeline.store.reader import Place, place
from pipeline.store.writer import Contents, Verdict, Work, write


def main() -> None:
    """Compute one feature of every clip."""
    if len(sys.argv) != 2:
        raise PipelineError("expected one argument: a name under features in params.yaml")
    name = sys.argv[1]
    previous_run = PreviousRun(f"featurize-{name}")
    feature = params.read_plugin(f"features.{name}", Feature)
    waveforms = open_current(Path("data/waveforms.h5"), None)
    sample_rate, samples = waveforms.params["audio"]["sample_rate"], waveforms.shape[1]
    problems = feature.problems(sample_rate, samples)
    if problems:
        raise PipelineError("\n".join(f"{params.FILE}: features.{name} {problem}" for problem in problems))
    path = Path(f"data/features/{name}.h5")
    contents = Contents(
        waveforms.clips,
        row_shape=feature.shape(samples),
        dtype=feature.dtype,
        params={**waveforms.params, "feature": feature.description(name, sample_rate)},
    )
    remedy = f"make features.{name} or audio.duration in {params.FILE} smaller"
    capacity.require(path, contents, feature.memory(samples), f"features.{name}", remedy)
    write(
        path,
        contents,
        Work(
            f"featurize {name}",
            range(len(waveforms.clips)),
            partial(_read, place(waveforms)),
            partial(_compute, feature.kernel(sample_rate)),
            sources=waveforms.checksums,
        ),
        previous=previous_run.store(path.name),
    )
    previous_run.save([path])


def _read(waveforms: Place, rows: Sequence[int]) -> Rows:
    first, last = rows[0], rows[-1]
    return waveforms.read(first, last + 1) if last - first + 1 == len(rows) else waveforms.rows()[list(rows)]


def _compute(kernel: Kernel, waveforms: Rows) -> tuple[Rows, list[Verdict[None]]]:
    return kernel(waveforms), [Verdict()] * len(waveforms)


if __name__ == "__main__":
    run(main)

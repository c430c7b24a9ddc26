"""data/features/<feature>.h5 + data/split.csv → models/model.keras, results/train: the best epoch."""

import time
from functools import partial
from pathlib import Path

from pipeline import params
from pipeline.errors import run
from pipeline.learning import batches, fit, runtime, timings
from pipeline.models import Model

MODEL = Path("models/model.keras")


def main() -> None:
    """Train the chosen model on the chosen feature."""
    feature = params.read("feature", str)
    name = params.read("model", str)
    model = params.read(f"models.{name}", Model.named(name))
    how = params.read("train", fit.Train, over=f"models.{name}.train")
    side = partial(batches.side, store=Path(f"data/features/{feature}.h5"), split=Path("data/split.csv"))
    train, val = side("train"), side("val")
    strategy = runtime.start(how.seed, deterministic=how.deterministic, machines=True)
    for key, value in model.train.items():
        print(f"train.{key} is {value}, as models.{name}.train has it")
    with strategy.scope():
        network = fit.build(model, train, how)
    with runtime.outputs(strategy) as folder:
        start = time.monotonic()
        fit.fit(network, model, (train, val), how, folder / "results/train")
        seconds = time.monotonic() - start
        fit.save(network, folder / MODEL)
    if strategy.extended.should_checkpoint:  # the chief machine
        timings.note(MODEL, seconds)


if __name__ == "__main__":
    run(main)

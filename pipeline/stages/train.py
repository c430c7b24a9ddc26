"""data/features/<feature>.h5 + data/split.csv → models/model.keras, results/train: the best epoch."""

from functools import partial
from pathlib import Path

from pipeline import params, readers, runtime, training
from pipeline.errors import run
from pipeline.models import Model


def main() -> None:
    """Train the chosen model on the chosen feature."""
    feature = params.read("feature", str)
    name = params.read("model", str)
    model = params.read(f"models.{name}", Model.named(name))
    how = params.read("train", training.Train, over=f"models.{name}.train")
    side = partial(readers.side, store=Path(f"data/features/{feature}.h5"), split=Path("data/split.csv"))
    train, val = side("train"), side("val")
    strategy = runtime.start(how.seed, deterministic=how.deterministic, machines=True)
    for key, value in model.train.items():
        print(f"train.{key} is {value}, as models.{name}.train has it")
    with strategy.scope():
        network = training.build(model, train, how)
    with runtime.outputs(strategy) as folder:
        training.fit(network, model, (train, val), how, folder / "results/train")
        training.save(network, folder / "models/model.keras")


if __name__ == "__main__":
    run(main)

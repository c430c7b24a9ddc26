"""data: features/<feature>.h5, waveforms.h5, split.csv → models/model.keras, results/train: train."""

from functools import partial
from pathlib import Path

from pipeline import params
from pipeline.errors import run
from pipeline.files import atomic_write
from pipeline.learning import network, noise, runtime, teacher, timings
from pipeline.learning.batches import limit, load_subset
from pipeline.learning.checkpoints import FOLDER, Checkpoints
from pipeline.learning.fit import fit
from pipeline.learning.saving import save
from pipeline.learning.settings import Train
from pipeline.models import Model

MODEL = Path("models/model.keras")
LOGS = Path("results/train")


def main() -> None:
    """Train the chosen model on the chosen feature."""
    checkpoints = Checkpoints(params.project() / FOLDER)
    feature = params.read("feature", params.Name)
    name = params.read("model", params.Name)
    model = params.read_plugin(f"models.{name}", Model)
    settings = params.read("train", Train, overrides=f"models.{name}.train")
    teacher.find(settings)  # a missing file is an error at once, not after the features are read
    load = partial(load_subset, store=Path(f"data/features/{feature}.h5"), split=Path("data/split.csv"))
    train = limit(load("train"), settings.clips_per_label, settings.seed)
    val = load("val")
    training_noise = noise.load(settings.augment.noise, train, Path("data/waveforms.h5"))
    description = {
        "labels": train.labels,
        **train.store.params,
        "model": {"name": name, "params": model.model_dump(by_alias=True)},
        "train": settings.with_effect(),
        "licences": model.licences(),
    }
    strategy = runtime.start(
        settings.seed, deterministic=settings.deterministic, precision=settings.precision, machines=True
    )
    for key, value in model.train_overrides.items():
        print(f"train.{key} is {value}, from models.{name}.train")
    moments = network.measure(train, settings)
    with strategy.scope():
        net = network.build(model, train, settings, moments)
        taught_by = teacher.load(settings, train)
    with checkpoints:
        with runtime.outputs(strategy) as folder, atomic_write(folder / LOGS) as logs:
            seconds = fit(
                net,
                model,
                (train, val),
                settings,
                moments=moments,
                logs=logs,
                teacher=taught_by,
                noise=training_noise,
                checkpoints=checkpoints,
            )
            save(net, folder / MODEL, description)
        if strategy.extended.should_checkpoint:  # the chief machine
            timings.note(MODEL, seconds)
        checkpoints.remove()


if __name__ == "__main__":
    run(main)

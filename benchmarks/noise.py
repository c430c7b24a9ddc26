"""Time epochs of training with noise, and without, in turn.

Without noise, a batch is read from the feature's store. With it, a batch of waveforms is read, each clip gets
a piece of noise, and the feature is computed again in the training step. Everything else is the same: the
model's own settings, with all its augmentation. A first epoch of each is not counted, because it compiles.

    python -m benchmarks.noise --archive ZIP
"""

import statistics
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from benchmarks.common import arguments, best_feature, compute_best_features, folder, machine, spread
from benchmarks.readers import subset
from pipeline import params
from pipeline.learning import fit, network, runtime
from pipeline.learning.noise import Noise
from pipeline.learning.preparation import prepare
from pipeline.learning.settings import Train
from pipeline.learning.trainee import trainee
from pipeline.models import Model
from pipeline.store.layout import describe
from pipeline.store.reader import rows

PIECES = 100


def epochs(name: str, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Return the number of training clips, and the seconds of each epoch without and with noise."""
    train = subset(Path(f"data/features/{best_feature(name)}.h5"))
    model = params.read_plugin(f"models.{name}", Model)
    settings = params.read("train", Train, overrides=f"models.{name}.train")
    settings = _noisy(settings)
    moments = network.measure(train, settings)
    waveforms = describe(Path("data/waveforms.h5"))
    noise = Noise(waveforms, rows(waveforms)[:PIECES])
    preparation = prepare(train, settings, moments, noise=noise)
    sides: dict[str, tuple[Any, Any]] = {}
    for side, added in (("clean", None), ("noise", noise)):
        net = network.build(model, train, settings, moments)
        if added is not None:
            net = trainee(net, None, settings.teacher_weight, preparation=preparation)
        net.compile(keras.optimizers.AdamW(), keras.losses.CategoricalCrossentropy(from_logits=True))
        sides[side] = net, fit.training_batches(train, settings, preparation, noise=added)
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, (net, dataset) in sides.items():
            start = time.perf_counter()
            net.fit(dataset, shuffle=False, verbose=0)  # the batches are shuffled
            if number:
                times[side].append(time.perf_counter() - start)
    return len(train.rows), times


def _noisy(settings: Train) -> Train:
    noise = settings.augment.noise.model_copy(update={"probability": 0.8, "gain": 6.0})
    return settings.model_copy(update={"augment": settings.augment.model_copy(update={"noise": noise})})


def main() -> None:
    """Time each model on its best feature."""
    args = arguments(str(__doc__), clips=1600, rounds=5, models=("resnet", "tcresnet"))
    runtime.start(0)
    print(machine(), f"TensorFlow {tf.__version__}\n")
    print("| model | clean, clips/s | with noise, clips/s | speed, noise to clean | range |")
    print("|---|---|---|---|---|")
    with folder(args.archive, args.clips, sample_rate=16000, duration=1.0):
        compute_best_features(args.models)
        for name in args.models:
            clips, times = epochs(name, args.rounds)
            clean, noisy = (clips / statistics.median(seconds) for seconds in times.values())
            speed = spread(times["clean"], times["noise"])
            print(f"| {name} | {clean:,.0f} | {noisy:,.0f} | {speed} |")


if __name__ == "__main__":
    main()

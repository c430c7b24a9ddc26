"""Training clips/s of each model in each precision: epochs in turn, after one that is not counted."""

import time
from pathlib import Path

from common import arguments, folder, machine, stage

import keras
import numpy as np
import tensorflow as tf
from readers import side

from pipeline import params
from pipeline.learning import fit, runtime
from pipeline.models import Model

MODELS = ("rnn", "cnn", "tcresnet", "bcresnet", "resnet", "dscnn")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def main() -> None:
    """Measure every model on the log-mel feature."""
    args = arguments(str(__doc__), clips=1024, rounds=3, batch=64)
    print(machine(), f"TensorFlow {tf.__version__}, batches of {args.batch}\n")
    print(f"| model | {' | '.join(PRECISIONS)} |\n|---|---|---|---|")
    with folder(args.archive, args.clips):
        stage("decode")
        stage("featurize logmel")
        train = side(Path("data/features/logmel.h5"))
        runtime.start(0)
        for name in MODELS:
            model = params.read(f"models.{name}", Model.named(name))
            how = params.read("train", fit.Train, over=f"models.{name}.train")
            networks, times = {}, {}
            for precision in PRECISIONS:
                how = how.model_copy(update={"precision": precision, "batch_size": args.batch})
                networks[precision] = fit.build(model, train, how)
                networks[precision].compile(
                    keras.optimizers.AdamW(), keras.losses.CategoricalCrossentropy(from_logits=True)
                )
                times[precision] = []
            batches = fit.training_batches(train, how)
            for number in range(args.rounds + 1):
                for precision, network in networks.items():
                    start = time.perf_counter()
                    network.fit(batches, verbose=0)
                    if number:
                        times[precision].append(time.perf_counter() - start)
            single = np.array(times["float32"])
            cells = [
                f"{len(train.rows) / np.median(each):,.0f}, {np.median(single / each):.2f} x"
                for each in map(np.array, times.values())
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

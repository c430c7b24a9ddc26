"""Time what equal bytes cost: training with `train.deterministic` true and false, an epoch each in turn.

TensorFlow reads its settings once, so each side is a process of its own. A first epoch, which compiles, is
not counted. The clips are 1 s at 16 kHz, and the models are those of params.yaml.

    python -m benchmarks.determinism --archive ZIP
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from benchmarks.common import ROOT, alternate, arguments, compute_best_features, folder, machine, spread
from pipeline import params
from pipeline.learning import fit, network, runtime
from pipeline.learning.preparation import prepare
from pipeline.learning.settings import Train

MODELS = ("resnet", "speech", "rnn", "cnn", "tcresnet", "dscnn", "bcresnet")
SIDE = "from benchmarks.determinism import side; side()"


def side() -> None:
    """Train the model that the command line names: one epoch for each line of standard input."""
    name, deterministic = sys.argv[1:]
    runtime.start(0, deterministic=deterministic == "true")
    import keras

    from benchmarks.prediction import untrained  # imports TensorFlow, which must not start before

    net, clips = untrained(name)
    settings = params.read("train", Train, overrides=f"models.{name}.train")
    preparation = prepare(clips, settings, network.measure(clips, settings))
    batches = fit.training_batches(clips, settings, preparation)
    net.compile(keras.optimizers.AdamW(), keras.losses.CategoricalCrossentropy(from_logits=True))
    for _ in sys.stdin:
        net.fit(batches, shuffle=False, verbose=0)  # the batches are shuffled
        print("done", flush=True)


@contextmanager
def started(name: str, deterministic: str) -> Iterator[Callable[[], object]]:
    """Yield a function that trains `name` for an epoch, in a process that ends with the block."""
    command = [sys.executable, "-c", SIDE, name, deterministic]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout

        def epoch() -> None:
            print(file=process.stdin, flush=True)
            if process.stdout.readline() != "done\n":  # type: ignore[union-attr]
                sys.exit(f"the training of {name} has stopped: see the message above")

        yield epoch
        process.stdin.close()


def main() -> None:
    """Print, for each model, the clips/s of both sides, and how many times as long the first takes."""
    args = arguments(str(__doc__), clips=1024, rounds=5, models=MODELS)
    lines = []
    with folder(args.archive, args.clips, sample_rate=16000, duration=1.0):
        compute_best_features(args.models)
        for name in args.models:
            with ExitStack() as stack:
                sides = {
                    f"{name}, {value}": stack.enter_context(started(name, value))
                    for value in ("true", "false")
                }
                for epoch in sides.values():
                    epoch()  # compiles
                times = list(alternate(sides, args.rounds, before=lambda: None).values())
            speeds = [f"{args.clips / np.median(seconds):,.0f}" for seconds in times]
            lines.append(f"| {name} | {' | '.join(speeds)} | {spread(*times)} |")
    print(f"\n{machine()}\n\n| model | true, clips/s | false, clips/s | time, true to false | range |")
    print("|---|---|---|---|---|", *lines, sep="\n")


if __name__ == "__main__":
    main()

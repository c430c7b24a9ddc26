"""Run each model under the interpreter for micro-controllers: the memory that it needs, and its answers.

The answers are compared with those of LiteRT's reference code. The networks have random weights, and take
the feature on which each is most accurate, of clips of 1 s at 16 kHz. The arena is the memory for all that is
not constant. Linux on x86-64 only.

    python -m benchmarks.micro --archive ZIP
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, compute_best_features, folder, machine
from benchmarks.prediction import untrained
from benchmarks.serving import export
from pipeline.learning import runtime
from pipeline.serving import micro
from pipeline.serving.export import PATHS
from pipeline.serving.predictor import MODEL
from pipeline.store.layout import describe
from pipeline.store.reader import rows

MODELS = ("resnet", "tcresnet", "bcresnet", "dscnn", "cnn", "speech")
ARENA = 16_000_000  # bytes, more than any model needs
TESTED = 100  # clips


def loaded(model: bytes) -> tuple[Any, int]:
    """Return an interpreter with `model`, and the bytes of the arena that it uses."""
    from tflite_micro.python.tflite_micro.runtime import Interpreter

    interpreter = Interpreter.from_bytes(model, arena_size=ARENA)
    # The interpreter only prints them, from C.
    with tempfile.TemporaryFile() as printed:
        streams = {number: os.dup(number) for number in (1, 2)}
        sys.stdout.flush()
        for number in streams:
            os.dup2(printed.fileno(), number)
        try:
            interpreter.print_allocations()
        finally:
            for number, copy in streams.items():
                os.dup2(copy, number)
                os.close(copy)
        printed.seek(0)
        found = re.search(rb"allocation total (\d+) bytes", printed.read())
    assert found
    return interpreter, int(found[1])


def main() -> None:
    """Print a table: bytes and arena of front end and network, and how many answers are not LiteRT's."""
    args = arguments(str(__doc__), clips=3276, models=MODELS)
    print(machine(), "\n")
    runtime.start(0)
    print("| model | front end: bytes | arena | network: bytes | arena | answers that differ |")
    print("|---|---|---|---|---|---|")
    with folder(args.archive, args.clips, sample_rate=16000, duration=1.0):
        compute_best_features(args.models)
        clips = rows(describe(Path("data/waveforms.h5")))
        clips = clips[:: max(1, len(clips) // TESTED)]
        for name in args.models:
            net, _ = untrained(name)
            export(name, net, "micro")
            path = MODEL.parent / PATHS["micro"]
            front_end, network = ((path / file).read_bytes() for file in (micro.FRONT_END, micro.NETWORK))
            first, first_arena = loaded(front_end)
            second, second_arena = loaded(network)
            there = micro.Model(network, reference=True)
            differing = 0
            for clip in clips:
                first.set_input(clip[None], 0)
                first.invoke()
                feature = first.get_output(0)
                second.set_input(micro.quantized(feature, there.input), 0)
                second.invoke()
                here = micro.quantized(there(feature), there.output)
                differing += not np.array_equal(here, second.get_output(0))
            print(
                f"| {name} | {len(front_end):,} | {first_arena:,} | {len(network):,} | {second_arena:,}"
                f" | {differing} of {len(clips)} |",
                flush=True,
            )
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


if __name__ == "__main__":
    main()

"""The interpreter for micro-controllers, on this machine."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ARENA = 4_000_000  # bytes


def run(model: bytes, values: NDArray[Any]) -> NDArray[Any]:
    """Return what the micro-controllers' interpreter computes from each of `values`."""
    runtime = pytest.importorskip(
        "tflite_micro.python.tflite_micro.runtime", reason="tflite-micro exists only for Linux on x86-64"
    )
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA)
    outputs = []
    for value in values:
        interpreter.set_input(value, 0)
        interpreter.invoke()
        outputs.append(np.copy(interpreter.get_output(0)))
    return np.stack(outputs)

"""The files for micro-controllers."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.serving import micro
from tests.learning.make import MODELS
from tests.serving import make

pytestmark = pytest.mark.tensorflow


def test_the_c_source_compiles_and_has_the_models(tmp_path: Path) -> None:
    """A C++ program that includes the header finds both models, byte for byte, and the labels."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    make.export(tmp_path, MODELS["dscnn"], make.FEATURES["logmel"], "micro")
    folder = tmp_path / "micro"
    (tmp_path / "main.cc").write_text(
        """
        #include <cstdio>
        #include "model.h"
        int main() {
            std::fprintf(stderr, "%d %d %s", sample_rate, num_samples, labels[num_labels - 1]);
            std::fwrite(front_end, 1, sizeof front_end, stdout);
            std::fwrite(network, 1, sizeof network, stdout);
        }
        """
    )
    program = tmp_path / "program"
    sources = [str(tmp_path / "main.cc"), str(folder / micro.SOURCE)]
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Werror", f"-I{folder}", *sources, "-o", str(program)], check=True
    )
    result = subprocess.run([program], capture_output=True, check=True)
    models = [(folder / name).read_bytes() for name in (micro.FRONT_END, micro.NETWORK)]
    assert result.stdout == b"".join(models)
    assert result.stderr == b"16000 8000 yes"
    assert micro.size(folder) == sum(map(len, models))


def test_int8_is_rounded_and_cut() -> None:
    """Values become the nearest of 256 levels, those outside the first or the last; and back."""
    details = {"dtype": np.int8, "quantization": (0.5, 10)}
    values = np.array([-100.0, -0.3, 0.0, 0.26, 1.0, 100.0], np.float32)
    levels = micro.quantized(values, details)
    assert levels.tolist() == [-128, 9, 10, 11, 12, 127]
    assert micro.dequantized(levels, details).tolist() == [-69.0, -0.5, 0.0, 0.5, 1.0, 58.5]
    plain = {"dtype": np.float32, "quantization": (0.0, 0)}
    np.testing.assert_array_equal(micro.quantized(values, plain), values)
    np.testing.assert_array_equal(micro.dequantized(values, plain), values)

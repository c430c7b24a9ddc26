"""Training on several devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.tensorflow

# All clips are one batch, as Keras draws another order with a strategy than without; and there is nothing,
# such as dropout, that would differ by device. So all ways compute the same sums.
CODE = """if True:
    import sys
    from pathlib import Path
    import numpy as np
    from pipeline import runtime, training
    from tests import test_training as t
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    import tensorflow as tf
    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        split = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, split)
    strategy = runtime.start(0)
    if devices > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(devices)])
    how = t.TRAIN.model_copy(
        update={"optimizer": "sgd", "epochs": 5, "batch_size": 80, "cache": sys.argv[3]}
    )
    model = t.Rnn(units=4, dropout=0.0)
    sides = t.make_sides(folder)
    with strategy.scope():
        network = training.build(model, sides["train"], how)
    training.fit(network, model, (sides["train"], sides["val"]), how, folder / "logs")
    np.savez(folder / "weights.npz", *network.get_weights())
    print("replicas", strategy.num_replicas_in_sync)
    training.save(network, folder / "model.keras")
    values = np.zeros((3, t.FRAMES, t.BINS), np.float32)
    import keras
    loaded = keras.models.load_model(folder / "model.keras")
    np.testing.assert_allclose(loaded(values), network(values), rtol=1e-5)
"""


def _start(folder: Path, devices: int = 1, cache: str = "none") -> "subprocess.Popen[str]":
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(folder), str(devices), cache],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def _weights(folder: Path) -> list[np.ndarray]:
    with np.load(folder / "weights.npz") as file:
        return [file[name] for name in file.files]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one device makes of it."""
    folder = tmp_path_factory.mktemp("alone") / "one"
    _finish(_start(folder))
    return folder


def _same(one: Path, other: Path) -> None:
    for a, b in zip(_weights(one), _weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    curves = [json.loads((folder / "logs/metrics.json").read_text()) for folder in (one, other)]
    assert curves[0]["train"]["accuracy"] == pytest.approx(curves[1]["train"]["accuracy"], abs=1e-6)
    assert curves[0]["val"]["loss"] == pytest.approx(curves[1]["val"]["loss"], rel=1e-3)


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_two_devices_train_as_one(alone: Path, tmp_path: Path, cache: str) -> None:
    """Two virtual devices under MirroredStrategy share each batch, and arrive at the weights of one."""
    output = _finish(_start(tmp_path / "two", devices=2, cache=cache))
    assert "replicas 2" in output
    _same(alone, tmp_path / "two")

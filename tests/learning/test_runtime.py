"""How TensorFlow is started."""

import subprocess
import sys

import pytest

from tests.project import ROOT


@pytest.mark.tensorflow
def test_tensorflow_starts_without_a_word() -> None:
    """Starting TensorFlow writes nothing to standard error, whatever it finds on this machine."""
    code = "from pipeline.learning import runtime; runtime.start(7)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""


@pytest.mark.tensorflow
def test_float32_is_float32() -> None:
    """On GPUs, products of float32 are not computed in TensorFloat-32, as they are by default."""
    code = """if True:
        import tensorflow as tf
        from pipeline.learning import runtime
        enabled = tf.config.experimental.tensor_float_32_execution_enabled
        before = enabled()
        runtime.start(7)
        print(before, enabled())
    """
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["True", "False"]


@pytest.mark.tensorflow
def test_batches_are_normalised_without_reciprocal_square_roots() -> None:
    """The layer computes what its definition says, and no operation of its graph approximates."""
    code = """if True:
        import numpy as np
        from pipeline.learning import runtime
        runtime.start(0)
        import keras
        import tensorflow as tf
        x = tf.random.stateless_normal((64, 5, 3), (0, 0), 2, 3)
        for options in ({}, {"center": False, "scale": False}, {"axis": 1, "epsilon": 0.1}):
            layer = keras.layers.BatchNormalization(**options)
            layer.build(x.shape)
            for weight, values in zip(layer.trainable_weights, (0.5, 2.0)):
                weight.assign(tf.fill(weight.shape, values))
            axes = (0, 2) if options.get("axis") == 1 else (0, 1)
            mean, variance = x.numpy().mean(axes, keepdims=True), x.numpy().var(axes, keepdims=True)
            expected = (x - mean) / np.sqrt(variance + options.get("epsilon", 1e-3))
            if options.get("scale", True):
                expected = 0.5 * expected + 2
            np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)

            @tf.function
            def step(x):
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    loss = tf.reduce_sum(layer(x, training=True) ** 2)
                return tape.gradient(loss, x)

            graph = step.get_concrete_function(x).graph
            print(*{operation.type for operation in graph.get_operations()})
    """
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    operations = set(result.stdout.split())
    assert "Sqrt" in operations
    assert not [name for name in operations if "Rsqrt" in name or "BatchNorm" in name]

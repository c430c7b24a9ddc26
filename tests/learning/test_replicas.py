"""Training on several devices and on several machines."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.learning import replicas, runtime
from tests.project import ROOT, Project

pytestmark = pytest.mark.tensorflow

# With a strategy Keras draws another order of clips, and dropout differs by device. So all clips are one
# batch and there is no dropout: then every way computes the same sums.
CODE = """if True:
    import os, sys
    from pathlib import Path
    import numpy as np
    from pipeline.learning import network, runtime
    from pipeline.learning.checkpoints import Checkpoints
    from pipeline.learning.fit import fit
    from pipeline.learning.saving import save
    from pipeline.learning.teacher import Teacher
    from pipeline.models.dscnn import DSCNN
    from tests.learning import make
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    import tensorflow as tf
    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        split = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, split)
    strategy = runtime.start(0, machines=True)
    if devices > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(devices)])
    settings = make.TRAIN.model_copy(
        update={
            "optimizer": "sgd",
            "epochs": int(sys.argv[4]),
            "batch_size": 80,
            "cache": sys.argv[3],
            "teacher_weight": 1.0,
        }
    )
    model = DSCNN(channels=4, blocks=1, dropout=0.0)
    if sys.argv[5] == "lively":
        settings = make.LIVELY.model_copy(update={"epochs": int(sys.argv[4])})
        model = make.MODELS["dscnn"]
    noise = None
    if sys.argv[5] == "noisy":
        subsets, noise = make.make_noisy_subsets(folder)
    else:
        subsets = make.make_subsets(folder)
    train, val = subsets["train"], subsets["val"]
    moments = network.measure(train, settings)
    with strategy.scope():
        net = network.build(model, train, settings, moments)
        teacher = None
        if sys.argv[5] == "taught":
            other = network.build(DSCNN(channels=2, blocks=1, dropout=0.0), train, settings, moments)
            other.trainable = False
            teacher = Teacher(other, train)
    print("replicas", strategy.num_replicas_in_sync)
    os.chdir(folder)
    with runtime.outputs(strategy) as out:
        checkpoints = Checkpoints(folder / "kept")
        save_checkpoint, stop = checkpoints.save, int(sys.argv[6])
        def save_and_stop(epoch, checkpoint):
            save_checkpoint(epoch, checkpoint)
            if epoch == stop:
                os._exit(0)
        checkpoints.save = save_and_stop
        others = {"teacher": teacher, "noise": noise, "checkpoints": checkpoints}
        fit(net, model, (train, val), settings, moments=moments, logs=out / "logs", **others)
        np.savez(out / "weights.npz", *net.get_weights())
        save(net, out / "model.keras")
        values = np.zeros((3, *train.row_shape), np.float32)
        import keras
        loaded = keras.models.load_model(out / "model.keras")
        np.testing.assert_allclose(loaded(values), net(values), rtol=1e-5)
"""


def _start(
    folder: Path,
    devices: int = 1,
    *,
    cache: str = "none",
    epochs: int = 3,
    teacher: str = "untaught",
    stop: int = 0,
    env: dict[str, str] | None = None,
) -> "subprocess.Popen[str]":
    """Train in a new process, which ends without an error after it has saved the epoch `stop`."""
    folder.mkdir(exist_ok=True)
    return _popen(
        [sys.executable, "-c", CODE, str(folder), str(devices), cache, str(epochs), teacher, str(stop)],
        ROOT,
        {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )


def _popen(command: list[str], cwd: Path, env: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _finish(*processes: "subprocess.Popen[str]") -> list[str]:
    """Return what the processes printed. Fail if one fails, or waits for another for minutes."""
    timer = Timer(180, _kill, processes)
    timer.start()
    try:
        outputs = [process.communicate()[0] for process in processes]
    finally:
        timer.cancel()
        _kill(*processes)
    assert not any(process.returncode for process in processes), "\n".join(outputs)
    return outputs


def _kill(*processes: "subprocess.Popen[str]") -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _two_machines() -> Iterable[dict[str, str]]:
    """Yield the environments of two machines, which are both this one."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other)]
    for index in range(2):
        task = {"type": "worker", "index": index}
        yield {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": task})}


def _weights(folder: Path) -> list[np.ndarray]:
    with np.load(folder / "weights.npz") as file:
        return [file[name] for name in file.files]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training on one device."""
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
def test_two_devices_train_as_one(one_device: Path, tmp_path: Path, cache: str) -> None:
    """Two virtual devices share each batch, and reach the weights that one device reaches."""
    (output,) = _finish(_start(tmp_path / "two", devices=2, cache=cache))
    assert "replicas 2" in output
    _same(one_device, tmp_path / "two")


def test_two_devices_learn_from_a_teacher_as_one(one_device: Path, tmp_path: Path) -> None:
    """With a teacher, two virtual devices reach the weights that one device reaches, not those without it."""
    _finish(_start(tmp_path / "one", teacher="taught"))
    _finish(_start(tmp_path / "two", devices=2, teacher="taught"))
    _same(tmp_path / "one", tmp_path / "two")
    pairs = zip(_weights(one_device), _weights(tmp_path / "one"), strict=True)
    assert max(np.abs(untaught - taught).max() for untaught, taught in pairs) > 1e-2


def test_two_devices_compute_features_as_one(tmp_path: Path) -> None:
    """Features that are computed from waveforms in each step give two devices the weights of one.

    No noise is added, because each device draws its own.
    """
    _finish(_start(tmp_path / "one", teacher="noisy"))
    _finish(_start(tmp_path / "two", devices=2, teacher="noisy"))
    _same(tmp_path / "one", tmp_path / "two")


def test_a_network_inside_a_network_is_normalised_over_all_devices() -> None:
    """Batch normalisation of a nested network also takes its moments from the whole batch."""
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    outer = keras.Sequential([keras.Input((4,)), inner, keras.layers.BatchNormalization()])
    replicas._synchronize_batch_norm(outer)
    assert inner.layers[0].synchronized
    assert outer.layers[1].synchronized


def test_parts_may_differ_in_length(one_device: Path, tmp_path: Path) -> None:
    """Five devices share 72 clips: the first epoch's loss and accuracy are those of one device."""
    _finish(_start(tmp_path / "five", devices=5, epochs=1))
    for metric in ("loss", "accuracy"):
        first = [
            (folder / f"logs/plots/metrics/train/{metric}.tsv").read_text().splitlines()[1].split("\t")
            for folder in (one_device, tmp_path / "five")
        ]
        assert float(first[0][-1]) == pytest.approx(float(first[1][-1]), rel=1e-5)


def test_two_machines_train_as_one(one_device: Path, tmp_path: Path) -> None:
    """Two workers share each batch and reach the weights of one; only the first writes files."""
    folders = tmp_path / "chief", tmp_path / "other"
    outputs = _finish(
        *(_start(folder, env=env) for folder, env in zip(folders, _two_machines(), strict=True))
    )
    assert all("replicas 2" in output for output in outputs)
    _same(one_device, folders[0])
    chief, other = ({path.name for path in folder.iterdir()} for folder in folders)
    assert chief - other == {"logs", "weights.npz", "model.keras"}
    assert not other - chief
    epochs = [[line for line in output.splitlines() if "val_loss" in line] for output in outputs]
    assert len(epochs[0]) == 3
    assert [_without_times(line) for line in epochs[0]] == [_without_times(line) for line in epochs[1]]


def test_two_machines_go_on_with_the_same_bytes(tmp_path: Path) -> None:
    """Two workers that were stopped go on together, and write the bytes that they would have written.

    One of them has an epoch more, as if the other had been stopped before it could save that.
    """
    outputs: list[str] = []
    for name, stop in (("one", 0), ("two", 2), ("two", 0)):
        folders = tmp_path / f"{name} chief", tmp_path / f"{name} other"
        if outputs and not stop:
            (last,) = folders[1].glob("kept/*/2")
            last.unlink()
        outputs += _finish(
            *(
                _start(folder, epochs=3, teacher="lively", stop=stop, env=env)
                for folder, env in zip(folders, _two_machines(), strict=True)
            )
        )
    assert all("training goes on after epoch 1" in output for output in outputs[-2:])
    undisturbed, stopped = tmp_path / "one chief", tmp_path / "two chief"
    for file in undisturbed.rglob("*"):
        if file.suffix in (".keras", ".json", ".tsv"):
            assert file.read_bytes() == (stopped / file.relative_to(undisturbed)).read_bytes()


def _without_times(line: str) -> str:
    return line.partition("/step - ")[2]


def test_a_machine_that_dies_ends_the_others(tmp_path: Path) -> None:
    """If the chief is killed, the other machine stops too, and says what happened and what to do."""
    chief, other = (
        _start(tmp_path / name, epochs=10_000, env=env)
        for name, env in zip(("chief", "other"), _two_machines(), strict=True)
    )
    assert chief.stdout
    next(line for line in chief.stdout if "val_loss" in line)
    _kill(chief)
    with pytest.raises(AssertionError, match=r"PipelineError: a machine in TF_CONFIG has stopped.*start all"):
        _finish(other)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> list[Project]:
    """Two clones that have a split and features."""
    folder = tmp_path_factory.mktemp("machines")
    chief = Project(folder / "chief" / "project")
    chief.run("dvc", "repro", "split", "featurize@stft")
    chief.commit()
    shutil.copytree(folder / "chief", folder / "other", symlinks=True)
    other = object.__new__(Project)
    other.path = folder / "other" / "project"
    other._env = {**chief._env, "HOME": str(folder / "other")}
    return [chief, other]


def test_two_clones_train_together(machines: list[Project]) -> None:
    """After the README's commands on two machines, only the chief has outputs, and DVC takes them over."""
    commands = ["dvc", "repro", "-f", "-s", "train"], [sys.executable, "-m", "pipeline.stages.train"]
    chief, other = machines
    _finish(
        *(
            _popen(command, machine.path, {**machine._env, **env})
            for command, machine, env in zip(commands, machines, _two_machines(), strict=True)
        )
    )
    assert (chief.path / "models/model.keras").exists()
    assert chief.repro("evaluate") == {"evaluate"}
    assert not other.run("git", "status", "--porcelain", "--ignored", "models", "results")


def test_machines_with_other_parameters_are_refused(machines: list[Project]) -> None:
    """If two clones differ in a parameter, both stop and say what to do."""
    machines[1].set_params({"train.learning_rate": 0.5})
    processes = [
        _popen([sys.executable, "-m", "pipeline.stages.train"], machine.path, {**machine._env, **env})
        for machine, env in zip(machines, _two_machines(), strict=True)
    ]
    with pytest.raises(AssertionError, match="train on different clips or parameters"):
        _finish(*processes)
    assert [process.returncode for process in processes] == [1, 1]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", r"TF_CONFIG: Invalid JSON.*found '{'"),
        ('{"cluster": {}}', r"TF_CONFIG\.task: Field required"),
        (
            '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
            r"TF_CONFIG\.cluster\.worker\.0: .*, found 'a'",
        ),
        (
            '{"cluster": {"ps": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
            r"TF_CONFIG\.cluster\.ps: .*not permitted",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
            r"TF_CONFIG: .*task is worker 2, but cluster has only 2",
        ),
    ],
)
def test_a_wrong_tf_config_is_refused(monkeypatch: pytest.MonkeyPatch, config: str, message: str) -> None:
    """The message says what is wrong with TF_CONFIG, what is expected, and what to do."""
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(PipelineError, match=message + r".*expected \{.*set it on each machine, or unset"):
        runtime.start(0, machines=True)


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot listen at its address says so and stops."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        workers = [f"127.0.0.1:{taken.getsockname()[1]}", "127.0.0.1:1"]
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        code = (
            "from pipeline import errors; from pipeline.learning import runtime;"
            " errors.run(lambda: runtime.start(0, machines=True))"
        )
        process = _popen([sys.executable, "-c", code], ROOT, {**os.environ, "PYTHONPATH": str(ROOT)})
        with pytest.raises(AssertionError, match="TF_CONFIG: this machine cannot join the others"):
            _finish(process)
    assert process.returncode == 1

"""The benchmarks: each one runs on a few clips, and prints the ratio or the table that it is for."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from tests import servers
from tests.project import ROOT, fresh_environment

pytestmark = pytest.mark.benchmark

NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "common")
NUMBER = r"[\d.,]+"


class Smoke(NamedTuple):
    """How to run one benchmark in a few seconds, and what it must print."""

    options: str
    printed: tuple[str, ...]  # regular expressions
    marks: tuple[pytest.MarkDecorator, ...] = ()


SMOKES = {
    "cluster": Smoke(
        "--clips 9 --rounds 1",
        (
            rf"code sent with each task: {NUMBER} kB",
            rf"\| featurize mfcc \| {NUMBER} \| {NUMBER} \| {NUMBER} \| {NUMBER} \|",
        ),
        (pytest.mark.cluster,),
    ),
    "determinism": Smoke(
        "--clips 9 --rounds 1 --models dscnn",
        (rf"\| dscnn \| {NUMBER} \| {NUMBER} \| {NUMBER} \| {NUMBER} to {NUMBER} \|",),
        (pytest.mark.tensorflow,),
    ),
    "exact": Smoke(
        "--clips 9",
        (
            "waveforms: 0 of 9 differ",
            r"mfcc: at most \d\.\de-0[3-9] from librosa, \d\.\de-0[6-9] of the clip's largest magnitude",
            r"stft: at most \d\.\de-0[6-9] of the clip's largest magnitude from tf\.signal\.stft",
        ),
        (pytest.mark.tensorflow,),
    ),
    "features": Smoke(
        "--clips 9 --rounds 1",
        (
            r"stft: largest difference from librosa's \d\.\de-0[4-9], from the notebook's \d\.\de-0[4-9]",
            rf"\| this project \| {NUMBER} \| {NUMBER} \| 1\.0 \|",
            rf"\| joblib \+ librosa, one pass \| {NUMBER} \| {NUMBER} \| {NUMBER} \|",
        ),
        (pytest.mark.tensorflow,),
    ),
    "growth": Smoke(
        "--clips 12 --rounds 1",
        ("1 of 12 clips are new", r"in CPU seconds:(.|\n)*1 % new takes -?[\d.]+% of a full run"),
    ),
    "kernels": Smoke(
        "--clips 9 --rounds 1",
        (rf"{NUMBER} times the bare calls", rf"\| stages, two jobs \| {NUMBER} s \| {NUMBER} times as fast"),
    ),
    "precision": Smoke(
        "--clips 9 --rounds 1 --batch 8 --models cnn",
        (rf"\| cnn \| {NUMBER}, 1\.00 x \| {NUMBER}, {NUMBER} x \| {NUMBER}, {NUMBER} x \|",),
        (pytest.mark.tensorflow,),
    ),
    "prediction": Smoke(
        "--clips 9 --rounds 1 --models resnet,dscnn",
        (
            rf"\| resnet \| {NUMBER} \| {NUMBER} to {NUMBER} \| 1\.00 \|",
            rf"\| dscnn \| {NUMBER} \| {NUMBER} to {NUMBER} \| {NUMBER} \|",
        ),
        (pytest.mark.tensorflow,),
    ),
    "readers": Smoke(
        "--clips 12 --rounds 1 --gigabytes 0.01 --steps 1",
        (
            rf"a store of 0\.01 GB, with cache: none: {NUMBER} clips/s, at most {NUMBER} GiB resident",
            rf"rnn waits for input during {NUMBER}% of its time",
            rf"in batches of 128(.|\n)*\| notebook, cached \| {NUMBER} \| {NUMBER} \| {NUMBER} \|",
        ),
        (pytest.mark.tensorflow,),
    ),
    "repro": Smoke(
        "--rounds 1",
        (
            r"\| `dvc repro` after the change \| [\d.]+ \| 100% \|",
            r"\| `dvc repro`, nothing to do \| [\d.]+ \| \d+% \|",
        ),
    ),
    "scale": Smoke(
        "--most 9 --sizes 2",
        (rf"2\.2 times the clips: {NUMBER} times the memory", r"line: -?[\d.]+ ms a clip"),
    ),
    "serving": Smoke(
        "--clips 9 --rounds 1 --models dscnn",
        (
            rf"dscnn, one recording: predict {NUMBER} s, import tensorflow {NUMBER} s, {NUMBER} times as",
            rf"dscnn, 9 recordings: predict {NUMBER} clips/s from audio files, evaluate {NUMBER} clips/s",
        ),
        (pytest.mark.tensorflow,),
    ),
    # After precision, which compiles with XLA: this makes TensorFlow deterministic, and XLA refuses that.
    "micro": Smoke(
        "--clips 9 --models dscnn",
        (rf"\| dscnn \| {NUMBER} \| {NUMBER} \| {NUMBER} \| {NUMBER} \| 0 of 9 \|",),
        (pytest.mark.tensorflow,),
    ),
    "sharing": Smoke(
        "--rounds 1 --features stft --shares 8",
        (
            rf"\| fetch all features \| {NUMBER} \| {NUMBER} \|",
            rf"to fetch all features is {NUMBER} times as fast as to compute all features",
            rf"at {NUMBER} MB/s: fetched in {NUMBER} s",
        ),
    ),
    "training": Smoke(
        "--clips 9 --rounds 1 --batch 4 --models cnn,bcresnet --features stft",
        (
            rf"\| stft \| cnn \| {NUMBER} \| {NUMBER} \| {NUMBER} \|",
            r"\| stft \| bcresnet \| .*subbands.* \| \| \|",
        ),
        (pytest.mark.tensorflow,),
    ),
    "noise": Smoke(
        "--clips 60 --rounds 1 --models tcresnet",
        (rf"\| tcresnet \| {NUMBER} \| {NUMBER} \| {NUMBER} \| {NUMBER} to {NUMBER} \|",),
        (pytest.mark.tensorflow,),
    ),
}


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of eight clips of noise, of two labels and four speakers."""
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("noise") / "noise.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for label in ("go", "stop"):
            for speaker in "abcd":
                clip = BytesIO()
                soundfile.write(clip, generator.uniform(-0.5, 0.5, 16000), 16000, format="WAV")
                archive.writestr(f"noise/{label}/{speaker}_nohash_0.wav", clip.getvalue())
    return path


def _skip_without_sshd() -> None:
    if not shutil.which("sshd", path=servers.DAEMONS):
        pytest.skip("there is no OpenSSH server: run make servers as root")


def _skip_without_tflite_micro() -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro exists only for Linux on x86-64")


REQUIREMENTS: dict[str, Callable[[], None]] = {
    "micro": _skip_without_tflite_micro,
    "sharing": _skip_without_sshd,
}


RUN = """
import os, runpy, sys
sys.path[0] = os.getcwd()  # as `python -m` does: benchmarks change the folder
archive, *runs = sys.argv[1:]
for run in runs:
    name, *options = run.split()
    print(f"== {name}", flush=True)
    sys.argv = [name, "--archive", archive, *options]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
"""


def _run(archive: Path, *names: str) -> str:
    """Run benchmarks one after the other in one process, and return what they print."""
    runs = [f"{name} {SMOKES[name].options}" for name in names]
    result = subprocess.run(
        [sys.executable, "-c", RUN, str(archive), *runs],
        cwd=ROOT,
        env=fresh_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def with_tensorflow(noise: Path) -> dict[str, str]:
    """The output of each benchmark that imports TensorFlow. They share a process: the import is slow."""
    names = [name for name, smoke in SMOKES.items() if pytest.mark.tensorflow in smoke.marks]
    parts = re.split(r"^== (\w+)\n", _run(noise, *names), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SMOKES[name].marks if name in SMOKES else ()) for name in NAMES]
)
def test_a_benchmark_prints_its_figures(name: str, noise: Path, request: pytest.FixtureRequest) -> None:
    """Run from the project's root on a few clips, it ends without an error and prints its ratio or table."""
    assert name in SMOKES, f"benchmarks/{name}.py has no smoke run: add one to SMOKES"
    smoke = SMOKES[name]
    if name in REQUIREMENTS:
        REQUIREMENTS[name]()
    if pytest.mark.tensorflow in smoke.marks:
        printed = request.getfixturevalue("with_tensorflow")[name]
    else:
        printed = _run(noise, name)
    for pattern in smoke.printed:
        assert re.search(pattern, printed), f"{pattern} is not in:\n{printed}"


def test_every_smoke_run_is_of_a_benchmark() -> None:
    """No smoke run remains of a benchmark that was deleted or renamed."""
    assert set(SMOKES) <= set(NAMES)

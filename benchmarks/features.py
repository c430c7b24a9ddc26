"""Files to finished stores of STFT and MFCC: this project against the notebook's way and the obvious one.

All start from the same files with everything imported, and end with the values of both features on disk;
what they wrote is compared once.
"""

import shutil
from pathlib import Path

from common import alternate, arguments, folder, forget, machine, stage, table

import h5py
import joblib
import librosa
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

RATE, DURATION, SAMPLES = 22050, 0.8, 17640
OUT = Path("rival")
Array = NDArray[np.float32]


def load(path: str) -> Array:
    """Return a clip's waveform as librosa loads it."""
    y, _ = librosa.load(path, sr=RATE, duration=DURATION)
    fixed: Array = librosa.util.fix_length(y, size=SAMPLES, mode="edge")
    return fixed


def mfcc(y: Array) -> Array:
    """Return a clip's MFCC."""
    values: Array = librosa.feature.mfcc(y=y, sr=RATE, n_mfcc=39, n_fft=512, hop_length=128).T
    return values


def clean() -> None:
    """Delete what the sides wrote."""
    forget()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()


def ours() -> None:
    """This project's three stages, from nothing."""
    for command in ("decode", "featurize stft", "featurize mfcc"):
        stage(command)


def datasets(files: list[str], *, autotune: bool) -> dict[str, tf.data.Dataset]:
    """Return the notebook's dataset of each feature: librosa in tf.numpy_function, tf.signal.stft."""
    parallel = tf.data.AUTOTUNE if autotune else None

    def stft(path: tf.Tensor) -> tf.Tensor:
        y = tf.numpy_function(lambda p: load(p.decode()), [path], tf.float32)
        return tf.abs(tf.signal.stft(tf.ensure_shape(y, [SAMPLES]), 512, 128))

    def cepstra(path: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda p: mfcc(load(p.decode())), [path], tf.float32)

    paths = tf.data.Dataset.from_tensor_slices(files)
    return {
        name: paths.map(function, num_parallel_calls=parallel)
        for name, function in (("stft", stft), ("mfcc", cepstra))
    }


def notebook(files: list[str], *, autotune: bool) -> None:
    """Cache each feature's dataset in a file, in one pass."""
    for name, dataset in datasets(files, autotune=autotune).items():
        for _ in dataset.cache(str(OUT / name)):
            pass


def stft(path: str) -> Array:
    """Return a clip's STFT."""
    values: Array = np.abs(librosa.stft(load(path), n_fft=512, hop_length=128, center=False)).T
    return values


def both(path: str) -> tuple[Array, Array]:
    """Return a clip's STFT and MFCC."""
    y = load(path)
    return np.abs(librosa.stft(y, n_fft=512, hop_length=128, center=False)).T, mfcc(y)


def passes(files: list[str]) -> None:
    """joblib over the files, librosa clip by clip, a pass and an HDF5 file for each feature."""
    for name, function, shape in (
        ("stft", stft, (134, 257)),
        ("mfcc", lambda path: mfcc(load(path)), (138, 39)),
    ):
        results = joblib.Parallel(n_jobs=-1, batch_size=32, return_as="generator")(
            joblib.delayed(function)(file) for file in files
        )
        with h5py.File(OUT / f"{name}.h5", "w") as out:
            store = out.create_dataset(name, (len(files), *shape), "f4")
            for row, values in enumerate(results):
                store[row] = values


def obvious(files: list[str]) -> None:
    """joblib over the files, librosa clip by clip, the results written into one HDF5 as they come."""
    results = joblib.Parallel(n_jobs=-1, batch_size=32, return_as="generator")(
        joblib.delayed(both)(file) for file in files
    )
    with h5py.File(OUT / "both.h5", "w") as out:
        stft = out.create_dataset("stft", (len(files), 134, 257), "f4")
        cepstra = out.create_dataset("mfcc", (len(files), 138, 39), "f4")
        for row, values in enumerate(results):
            stft[row], cepstra[row] = values


def main() -> None:
    """Compare what the sides write, then time them in turn."""
    args = arguments(str(__doc__), clips=3276, rounds=5)
    print(machine())
    with folder(args.archive, args.clips):
        files = [str(path.absolute()) for path in sorted(Path("data/raw").glob("*/*"))]
        clean()
        ours()
        obvious(files)
        with h5py.File(OUT / "both.h5") as other:
            theirs = datasets(files[:500], autotune=False)
            for name in ("stft", "mfcc"):
                with h5py.File(f"data/features/{name}.h5") as store:
                    values = store["values"][:]
                one = np.abs(values - other[name][:]).max()
                two = np.abs(values[:500] - np.stack(list(theirs[name].as_numpy_iterator()))).max()
                print(f"{name}: largest difference from librosa's {one:.1e}, from the notebook's {two:.1e}")
        sides = {
            "this project": ours,
            "notebook": lambda: notebook(files, autotune=False),
            "notebook, AUTOTUNE": lambda: notebook(files, autotune=True),
            "joblib + librosa, a pass for each feature": lambda: passes(files),
            "joblib + librosa, one pass": lambda: obvious(files),
        }
        times = alternate(sides, args.rounds, clean)
    table(times, args.clips, "this project")


if __name__ == "__main__":
    main()

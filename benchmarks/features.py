"""Time this project, the notebook, and joblib with librosa on the way from audio files to STFT and MFCC.

All start from the same files, with everything imported, and end with both features on disk. First, the
values that they write are compared.

    python -m benchmarks.features --archive ZIP
"""

import shutil
from pathlib import Path

import h5py
import joblib
import librosa
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.common import alternate, arguments, folder, forget, machine, stage, table

RATE, DURATION, SAMPLES = 22050, 0.8, 17640
STFT_SHAPE, MFCC_SHAPE = (134, 257), (138, 39)  # frames, bins
# With how many clips of the notebook the values are compared. It is slow.
COMPARED = 500
OUT = Path("rival")

Array = NDArray[np.float32]


def load(path: str) -> Array:
    """Return a clip's waveform (samples,) as librosa loads it."""
    waveform, _ = librosa.load(path, sr=RATE, duration=DURATION)
    fixed: Array = librosa.util.fix_length(waveform, size=SAMPLES, mode="edge")
    return fixed


def stft(waveform: Array) -> Array:
    """Return a waveform's STFT (frames, bins), by librosa."""
    values: Array = np.abs(librosa.stft(waveform, n_fft=512, hop_length=128, center=False)).T
    return values


def mfcc(waveform: Array) -> Array:
    """Return a waveform's MFCC (frames, bins), by librosa."""
    values: Array = librosa.feature.mfcc(y=waveform, sr=RATE, n_mfcc=39, n_fft=512, hop_length=128).T
    return values


def load_stft(path: str) -> Array:
    """Return a clip's STFT."""
    return stft(load(path))


def load_mfcc(path: str) -> Array:
    """Return a clip's MFCC."""
    return mfcc(load(path))


def load_both(path: str) -> tuple[Array, Array]:
    """Return a clip's STFT and MFCC, from one waveform."""
    waveform = load(path)
    return stft(waveform), mfcc(waveform)


def clean() -> None:
    """Delete what all sides wrote."""
    forget()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()


def ours() -> None:
    """Run this project's three stages."""
    for command in ("decode", "featurize stft", "featurize mfcc"):
        stage(command)


def notebook_stft(path: tf.Tensor) -> tf.Tensor:
    """Return a clip's STFT as the notebook's graph does: librosa in tf.numpy_function, tf.signal.stft."""
    waveform = tf.numpy_function(lambda path: load(path.decode()), [path], tf.float32)
    return tf.abs(tf.signal.stft(tf.ensure_shape(waveform, [SAMPLES]), 512, 128))


def notebook_mfcc(path: tf.Tensor) -> tf.Tensor:
    """Return a clip's MFCC as the notebook's graph does: librosa in tf.numpy_function."""
    return tf.numpy_function(lambda path: load_mfcc(path.decode()), [path], tf.float32)


def datasets(files: list[str], *, autotune: bool) -> dict[str, tf.data.Dataset]:
    """Return the notebook's dataset of each feature."""
    calls = tf.data.AUTOTUNE if autotune else None
    paths = tf.data.Dataset.from_tensor_slices(files)
    return {
        name: paths.map(function, num_parallel_calls=calls)
        for name, function in (("stft", notebook_stft), ("mfcc", notebook_mfcc))
    }


def notebook(files: list[str], *, autotune: bool) -> None:
    """Cache each feature's dataset in a file."""
    for name, dataset in datasets(files, autotune=autotune).items():
        for _ in dataset.cache(str(OUT / name)):
            pass


def two_passes(files: list[str]) -> None:
    """Compute one feature after the other with joblib and librosa, into one HDF5 file each."""
    for name, function, shape in (("stft", load_stft, STFT_SHAPE), ("mfcc", load_mfcc, MFCC_SHAPE)):
        results = joblib.Parallel(n_jobs=-1, batch_size=32, return_as="generator")(
            joblib.delayed(function)(file) for file in files
        )
        with h5py.File(OUT / f"{name}.h5", "w") as out:
            values = out.create_dataset(name, (len(files), *shape), "f4")
            for row, value in enumerate(results):
                values[row] = value


def one_pass(files: list[str]) -> None:
    """Compute both features of each clip together with joblib and librosa, into one HDF5 file."""
    results = joblib.Parallel(n_jobs=-1, batch_size=32, return_as="generator")(
        joblib.delayed(load_both)(file) for file in files
    )
    with h5py.File(OUT / "both.h5", "w") as out:
        stft_values = out.create_dataset("stft", (len(files), *STFT_SHAPE), "f4")
        mfcc_values = out.create_dataset("mfcc", (len(files), *MFCC_SHAPE), "f4")
        for row, (stft_value, mfcc_value) in enumerate(results):
            stft_values[row], mfcc_values[row] = stft_value, mfcc_value


def compare(files: list[str]) -> None:
    """Print how far this project's values are from librosa's and from the notebook's."""
    clean()
    ours()
    one_pass(files)
    notebooks = datasets(files[:COMPARED], autotune=False)
    with h5py.File(OUT / "both.h5") as librosas:
        for name in ("stft", "mfcc"):
            with h5py.File(f"data/features/{name}.h5") as store:
                values = store["values"][:]
            theirs = np.stack(list(notebooks[name].as_numpy_iterator()))
            from_librosa = np.abs(values - librosas[name][:]).max()
            from_notebook = np.abs(values[:COMPARED] - theirs).max()
            print(
                f"{name}: largest difference from librosa's {from_librosa:.1e},"
                f" from the notebook's {from_notebook:.1e}"
            )


def main() -> None:
    """Compare the values, then time all sides in turn."""
    args = arguments(str(__doc__), clips=3276, rounds=5)
    print(machine())
    with folder(args.archive, args.clips):
        files = [str(path.absolute()) for path in sorted(Path("data/raw").glob("*/*"))]
        compare(files)
        sides = {
            "this project": ours,
            "notebook": lambda: notebook(files, autotune=False),
            "notebook, AUTOTUNE": lambda: notebook(files, autotune=True),
            "joblib + librosa, one pass for each feature": lambda: two_passes(files),
            "joblib + librosa, one pass": lambda: one_pass(files),
        }
        times = alternate(sides, args.rounds, clean)
    table(times, args.clips, "this project")


if __name__ == "__main__":
    main()

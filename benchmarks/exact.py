"""Compare every clip's waveform and features with those of librosa and TensorFlow.

Prints the largest differences, and their ratio to the largest magnitude of the same clip.

    python -m benchmarks.exact --archive ZIP
"""

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import arguments, folder, machine, stage
from pipeline import params
from pipeline.features import Spectral
from pipeline.features.logmel import LogMel
from pipeline.features.stft import STFT
from pipeline.store.layout import Rows, describe
from pipeline.store.reader import rows

# Clips at a time for TensorFlow.
BATCH = 256


def reference(feature: Spectral, waveform: Rows, rate: int) -> NDArray[Any]:
    """Return the feature (frames, bins) of one waveform as librosa computes it."""
    settings = feature.model_dump(exclude={"kind", "dtype"})
    match feature:
        case STFT():
            values = np.abs(librosa.stft(waveform, **settings))
        case LogMel():
            power = librosa.feature.melspectrogram(y=waveform, sr=rate, **settings)
            values = librosa.power_to_db(power)
        case _:
            values = librosa.feature.mfcc(y=waveform, sr=rate, **settings)
    return np.asarray(values).T


def compare_waveforms(audio: dict[str, Any]) -> Rows:
    """Print how many waveforms differ from librosa's, and return ours."""
    store = describe(Path("data/waveforms.h5"))
    waveforms = rows(store)
    different = 0
    for clip, waveform in zip(store.clips, waveforms, strict=True):
        path = Path("data/raw") / clip
        expected, _ = librosa.load(path, sr=audio["sample_rate"], duration=audio["duration"])
        expected = librosa.util.fix_length(expected, size=len(waveform), mode=audio["padding"])
        different += not np.array_equal(expected, waveform)
    print(f"waveforms: {different} of {len(waveforms)} differ from librosa.load in any value")
    return waveforms


def compare_with_librosa(name: str, waveforms: Rows, rate: int) -> None:
    """Print how far the feature `name` is from librosa's."""
    feature = params.read_plugin(f"features.{name}", Spectral)
    values = rows(describe(Path(f"data/features/{name}.h5")))
    largest = relative = 0.0
    for waveform, row in zip(tqdm(waveforms, name, disable=None), values, strict=True):
        expected = reference(feature, waveform, rate)
        difference = np.abs(row - expected).max()
        largest = max(largest, difference)
        relative = max(relative, difference / np.abs(expected).max())
    print(f"{name}: at most {largest:.1e} from librosa, {relative:.1e} of the clip's largest magnitude")


def compare_with_tensorflow(waveforms: Rows) -> None:
    """Print how far the STFT is from tf.signal.stft."""
    stft = rows(describe(Path("data/features/stft.h5")))
    relative = 0.0
    for start in range(0, len(waveforms), BATCH):
        expected = np.abs(tf.signal.stft(waveforms[start : start + BATCH], 512, 128).numpy())
        difference = np.abs(stft[start : start + BATCH] - expected).max(axis=(1, 2))
        relative = max(relative, (difference / expected.max(axis=(1, 2))).max())
    print(f"stft: at most {relative:.1e} of the clip's largest magnitude from tf.signal.stft")


def main() -> None:
    """Run the stages, then compare what they wrote."""
    args = arguments(str(__doc__), clips=3276)
    print(machine())
    with folder(args.archive, args.clips):
        audio = params.load()["audio"]
        stage("decode")
        waveforms = compare_waveforms(audio)
        for name in ("stft", "logmel", "mfcc"):
            stage(f"featurize {name}")
            compare_with_librosa(name, waveforms, audio["sample_rate"])
        compare_with_tensorflow(waveforms)


if __name__ == "__main__":
    main()

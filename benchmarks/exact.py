"""Every clip of an archive: the largest differences from librosa and TensorFlow, clip by clip."""

from pathlib import Path

from common import arguments, folder, machine, stage

import librosa
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipeline import params
from pipeline.features import Spectral
from pipeline.features.logmel import Logmel
from pipeline.features.mfcc import Mfcc
from pipeline.features.stft import Stft
from pipeline.store.layout import describe
from pipeline.store.reader import rows


def reference(feature: Spectral, y: np.ndarray, rate: int) -> np.ndarray:
    """Return librosa's values for one waveform."""
    how = feature.model_dump(exclude={"dtype"})
    match feature:
        case Stft():
            return np.abs(librosa.stft(y, **how)).T
        case Logmel():
            return librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=rate, **how)).T
        case _:
            return librosa.feature.mfcc(y=y, sr=rate, **how).T


def main() -> None:
    """Compute the stores, then go through them."""
    args = arguments(str(__doc__), clips=3276)
    print(machine())
    with folder(args.archive, args.clips):
        stage("decode")
        waveforms = rows(describe(Path("data/waveforms.h5")))
        audio = params.load()["audio"]
        off = 0
        for path, waveform in zip(sorted(Path("data/raw").glob("*/*")), waveforms, strict=True):
            y, _ = librosa.load(path, sr=audio["sample_rate"], duration=audio["duration"])
            y = librosa.util.fix_length(y, size=len(waveform), mode=audio["padding"])
            off += not np.array_equal(y, waveform)
        print(f"waveforms: {off} of {len(waveforms)} differ from librosa.load in any value")
        for kind in (Stft, Logmel, Mfcc):
            name = kind.__name__.lower()
            feature = params.read(f"features.{name}", kind)
            stage(f"featurize {name}")
            values = rows(describe(Path(f"data/features/{name}.h5")))
            largest = relative = 0.0
            for y, row in zip(tqdm(waveforms, name, disable=None), values, strict=True):
                expected = reference(feature, y, audio["sample_rate"])
                difference = np.abs(row - expected).max()
                largest = max(largest, difference)
                relative = max(relative, difference / np.abs(expected).max())
            print(
                f"{name}: at most {largest:.1e}, {relative:.1e} of the row's largest magnitude, from librosa"
            )
        stft = rows(describe(Path("data/features/stft.h5")))
        relative = 0.0
        for start in range(0, len(waveforms), 256):
            expected = np.abs(tf.signal.stft(waveforms[start : start + 256], 512, 128).numpy())
            difference = np.abs(stft[start : start + 256] - expected).max(axis=(1, 2))
            relative = max(relative, (difference / expected.max(axis=(1, 2))).max())
        print(f"stft: at most {relative:.1e} of the row's largest magnitude from tf.signal.stft")


if __name__ == "__main__":
    main()

"""CPU seconds of the whole stages against those of their bare kernels, and two jobs against one.

The bare side runs the same library calls on the same batches in one process and keeps nothing: sf.read,
soxr on 8 clips, windowed frames and rfft, |.|, mel and dct. Both sides with everything imported, and the
workers of joblib's default backend started. Two processes of bare kernels, each on half of the clips, show
what a second core of this machine brings at best.
"""

import os
import statistics
from collections.abc import Callable
from pathlib import Path

from common import arguments, cpu, folder, forget, machine, seconds, stage

import joblib
import librosa
import numpy as np
import scipy.fft
import scipy.sparse
import soundfile
import soxr

AT_A_TIME = 8
STAGES = ("decode", "featurize stft", "featurize mfcc")


def bare(files: list[Path]) -> None:
    """The kernels alone, 8 clips at a time."""
    window = np.hanning(513)[:512].astype(np.float32)
    filters = scipy.sparse.csr_array(librosa.filters.mel(sr=22050, n_fft=512, n_mels=128))
    for start in range(0, len(files), AT_A_TIME):
        some = [soundfile.read(file, dtype="float32")[0][:12800] for file in files[start : start + AT_A_TIME]]
        waveforms = np.ascontiguousarray(soxr.resample(np.stack(some, axis=1), 16000, 22050).T)
        np.abs(spectra(waveforms, window))
        # In double precision, as librosa's.
        spectrum = spectra(np.pad(waveforms, ((0, 0), (256, 256))), window.astype(np.float64))
        spectrum = spectrum.astype(np.complex64)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        mel = filters @ np.ascontiguousarray(power.reshape(-1, 257).T)
        scipy.fft.dct(10 * np.log10(np.maximum(mel, 1e-10)), axis=0, norm="ortho")


def spectra(waveforms: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Windowed frames and their transform."""
    framed = np.lib.stride_tricks.sliding_window_view(waveforms, 512, axis=1)[:, ::128]
    return scipy.fft.rfft(framed * window, axis=-1)


def whole(jobs: int) -> None:
    """The three stages, from nothing."""
    forget()
    os.environ["PIPELINE_JOBS"] = str(jobs)
    for command in STAGES:
        stage(command)


def main() -> None:
    """Measure in turn, and print medians and ratios."""
    args = arguments(str(__doc__), clips=3276, rounds=5)
    print(machine())
    with folder(args.archive, args.clips):
        files = sorted(Path("data/raw").glob("*/*"))
        kept = np.empty(31 << 20, np.uint8)
        del kept  # as pipeline.parallel does, for both sides
        halves = joblib.Parallel(n_jobs=2)
        sides = {"bare": lambda: bare(files), "stages": lambda: whole(1)}
        walls: dict[str, Callable[[], object]] = {
            "one job": lambda: whole(1),
            "two jobs": lambda: whole(2),
            "bare, one process": lambda: bare(files),
            "bare, two processes": lambda: halves(joblib.delayed(bare)(files[n::2]) for n in range(2)),
        }
        for side in walls.values():
            side()
        times: dict[str, list[float]] = {name: [] for name in (*sides, *walls)}
        for _ in range(args.rounds):
            for name, side in sides.items():
                times[name].append(cpu(side))
            for name, side in walls.items():
                times[name].append(seconds(side))
    ratio = statistics.median(np.array(times["stages"]) / np.array(times["bare"]))
    print(f"bare kernels     {statistics.median(times['bare']):.2f} CPU s")
    print(f"stages, one job  {statistics.median(times['stages']):.2f} CPU s, {ratio:.2f} times the kernels'")
    for one, two in (("one job", "two jobs"), ("bare, one process", "bare, two processes")):
        speed_up = statistics.median(np.array(times[one]) / np.array(times[two]))
        print(f"{one:<20} {statistics.median(times[one]):.2f} s")
        print(f"{two:<20} {statistics.median(times[two]):.2f} s, {speed_up:.2f} times as fast")


if __name__ == "__main__":
    main()

"""Compare the CPU time of the stages with that of bare library calls, and two jobs with one.

The bare calls are sf.read, soxr, windowed frames and rfft, magnitudes, mel and dct. They run on the same
batches as the stages, in one process, and keep nothing. Everything is imported and all workers have started
before the first measurement. Two processes with the bare calls, each on half of the clips, show how much a
second core can help on this machine.

    python -m benchmarks.kernels --archive ZIP
"""

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import librosa
import numpy as np
import scipy.fft
import scipy.sparse
import soundfile
import soxr
from numpy.typing import NDArray

from benchmarks.common import arguments, cpu, folder, forget, machine, ratio, seconds, stage
from pipeline.parallel import keep_freed_memory
from pipeline.store.writer import CLIPS_AT_A_TIME

STAGES = ("decode", "featurize stft", "featurize mfcc")
RATE, TARGET = 16000, 22050
SAMPLES = 12800  # 0.8 s at 16 kHz


def bare(files: list[Path]) -> None:
    """Decode, resample and transform the clips, a few at a time."""
    window = np.hanning(513)[:512].astype(np.float32)
    filters = scipy.sparse.csr_array(librosa.filters.mel(sr=TARGET, n_fft=512, n_mels=128))
    for start in range(0, len(files), CLIPS_AT_A_TIME):
        batch = files[start : start + CLIPS_AT_A_TIME]
        recordings = [soundfile.read(file, dtype="float32")[0][:SAMPLES] for file in batch]
        waveforms = np.ascontiguousarray(soxr.resample(np.stack(recordings, axis=1), RATE, TARGET).T)
        np.abs(spectra(waveforms, window))
        # librosa, too, computes these spectra in double precision.
        padded = np.pad(waveforms, ((0, 0), (256, 256)))
        spectrum = spectra(padded, window.astype(np.float64)).astype(np.complex64)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        mel = filters @ np.ascontiguousarray(power.reshape(-1, 257).T)
        scipy.fft.dct(10 * np.log10(np.maximum(mel, 1e-10)), axis=0, norm="ortho")


def spectra(waveforms: NDArray[np.float32], window: NDArray[Any]) -> NDArray[Any]:
    """Return the spectra (clips, frames, bins) of `waveforms` (clips, samples)."""
    framed = np.lib.stride_tricks.sliding_window_view(waveforms, 512, axis=1)[:, ::128]
    return np.asarray(scipy.fft.rfft(framed * window, axis=-1))


def stages(jobs: int) -> None:
    """Run the three stages with `jobs` jobs, without anything from previous runs."""
    forget()
    os.environ["PIPELINE_JOBS"] = str(jobs)
    for command in STAGES:
        stage(command)


def main() -> None:
    """Time all sides in turn, and print medians and ratios."""
    args = arguments(str(__doc__), clips=3276, rounds=5)
    print(machine())
    with folder(args.archive, args.clips):
        files = sorted(Path("data/raw").glob("*/*"))
        keep_freed_memory()  # the stages do this too
        halves = joblib.Parallel(n_jobs=2)
        by_cpu: dict[str, Callable[[], object]] = {
            "bare calls": lambda: bare(files),
            "stages": lambda: stages(1),
        }
        by_seconds: dict[str, Callable[[], object]] = {
            "stages, one job": lambda: stages(1),
            "stages, two jobs": lambda: stages(2),
            "bare calls, one process": lambda: bare(files),
            "bare calls, two processes": lambda: halves(joblib.delayed(bare)(files[n::2]) for n in range(2)),
        }
        for side in by_seconds.values():
            side()
        times: dict[str, list[float]] = {name: [] for name in (*by_cpu, *by_seconds)}
        for _ in range(args.rounds):
            for name, side in by_cpu.items():
                times[name].append(cpu(side))
            for name, side in by_seconds.items():
                times[name].append(seconds(side))
    print("| | median | ratio |\n|---|---|---|")
    print(f"| bare calls, CPU | {statistics.median(times['bare calls']):.2f} s | |")
    slower = ratio(times["stages"], times["bare calls"])
    median = statistics.median(times["stages"])
    print(f"| stages with one job, CPU | {median:.2f} s | {slower:.2f} times the bare calls |")
    names = list(by_seconds)
    for one, two in (names[:2], names[2:]):
        faster = ratio(times[one], times[two])
        print(f"| {one} | {statistics.median(times[one]):.2f} s | |")
        print(f"| {two} | {statistics.median(times[two]):.2f} s | {faster:.2f} times as fast |")


if __name__ == "__main__":
    main()

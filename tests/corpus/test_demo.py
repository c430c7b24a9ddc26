import hashlib
import io
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from pydantic import ValidationError
from ruamel.yaml import YAML

from pipeline import params
from pipeline.corpus import demo
from pipeline.corpus.demo import Demo
from pipeline.errors import PipelineError
from tests.project import ROOT

TOP = "mini_speech_commands"
NOISE = "_background_noise_"


def parameters(**changes: Any) -> Demo:
    section = {
        "labels": ["up", "down"],
        "voices": 6,
        "clips_per_label": 40,
        "min_snr": 5.0,
        "max_snr": 30.0,
        "noise_seconds": 2.5,
        "seed": 0,
    }
    return Demo(**{**section, **changes})


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def clips(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in content.items() if name.endswith(".wav") and NOISE not in name}


def waveform(data: bytes) -> NDArray[np.float64]:
    samples, rate = soundfile.read(io.BytesIO(data))
    assert rate == 16_000
    return np.asarray(samples, np.float64)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo"
    demo.write(parameters(), path)
    return path


def test_another_process_writes_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    """The same parameters give the same bytes in another process."""
    program = (
        "import sys; from pathlib import Path; from pipeline.corpus import demo;"
        " demo.write(demo.Demo.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    again = tmp_path / "again"
    argv = [sys.executable, "-c", program, parameters().model_dump_json(), str(again)]
    result = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    assert again.read_bytes() == archive.read_bytes()
    assert result.stderr == ""


def test_the_archive_has_the_form_of_the_published_one(archive: Path) -> None:
    """It has a top folder, a folder per label, and the Finder's files: sorted, undated and not compressed."""
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
    names = [info.filename for info in infos]
    assert names == sorted(names)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    content = entries(archive)
    others = {name for name in content.keys() - clips(content).keys() if NOISE not in name}
    assert others == {f"__MACOSX/{TOP}/._.DS_Store", f"{TOP}/.DS_Store", f"{TOP}/README.md"}
    assert "synthetic" in content[f"{TOP}/README.md"].decode()
    assert Counter(name.split("/")[1] for name in clips(content)) == {"up": 40, "down": 40}


def test_speakers_take_turns(archive: Path) -> None:
    """Each speaker has spoken a word before any speaks it again. Takes are counted from 0."""
    for label in ("up", "down"):
        files = [Path(name).stem for name in clips(entries(archive)) if f"/{label}/" in name]
        takes = Counter(file.split("_nohash_")[0] for file in files)
        assert len(takes) == 6
        assert max(takes.values()) - min(takes.values()) == 1
        assert set(files) == {f"{who}_nohash_{take}" for who in takes for take in range(takes[who])}


def test_clips_are_16_khz_mono_int16(archive: Path) -> None:
    """Clips last 0.6 to 1 s, and a few are shorter than 1 s."""
    infos = [soundfile.info(io.BytesIO(data)) for data in clips(entries(archive)).values()]
    assert {(info.samplerate, info.channels, info.subtype) for info in infos} == {(16_000, 1, "PCM_16")}
    lengths = np.array([info.frames for info in infos])
    assert lengths.max() == 16_000
    assert lengths.min() >= 9_600
    assert 0.02 < np.mean(lengths < 16_000) < 0.25


def test_a_word_is_heard_in_each_clip(archive: Path) -> None:
    """Each clip has speech louder than its noise, mostly in its first 0.8 s, and stays below full scale."""
    for name, data in clips(entries(archive)).items():
        samples = waveform(data)
        assert 0.09 < np.abs(samples).max() < 0.9, name
        power = np.square(samples[: len(samples) // 400 * 400]).reshape(-1, 400).mean(axis=1)
        assert power.max() > 4 * np.quantile(power, 0.1), name
        assert np.square(samples[:12_800]).sum() > 0.6 * np.square(samples).sum(), name


def test_all_clips_differ(archive: Path) -> None:
    """Each speaker and each take gives different bytes."""
    content = clips(entries(archive))
    assert len(set(content.values())) == len(content)


def test_a_clip_does_not_depend_on_the_others(archive: Path, tmp_path: Path) -> None:
    """With fewer labels or fewer clips, the remaining clips have the same bytes."""
    whole = clips(entries(archive))
    for name, fewer in {
        "labels": parameters(labels=["down"]),
        "clips": parameters(labels=["down", "up"], clips_per_label=7),
    }.items():
        demo.write(fewer, tmp_path / name)
        some = clips(entries(tmp_path / name))
        assert some
        assert len(some) < len(whole)
        assert some.items() <= whole.items()


def test_the_seed_changes_every_clip(archive: Path, tmp_path: Path) -> None:
    """Another seed gives other bytes for each clip, with the same names."""
    demo.write(parameters(seed=1, labels=["up"], clips_per_label=6), tmp_path / "other")
    whole = clips(entries(archive))
    for name, data in clips(entries(tmp_path / "other")).items():
        assert data != whole[name]


def test_a_lower_snr_gives_more_noise(tmp_path: Path) -> None:
    """The quietest tenth of a clip is over 10 times louder at 0 dB than at 40 dB."""
    floor = {}
    for snr in (0.0, 40.0):
        demo.write(parameters(min_snr=snr, max_snr=snr, clips_per_label=6), tmp_path / str(snr))
        floor[snr] = [
            np.quantile(np.abs(samples), 0.1) / np.abs(samples).max()
            for samples in map(waveform, clips(entries(tmp_path / str(snr))).values())
        ]
    assert np.median(floor[0.0]) > 10 * np.median(floor[40.0])


def test_there_are_416_different_voices() -> None:
    """104 variants in four accents have 416 different speaker names."""
    voices = demo._voices()
    assert len({demo._speaker(voice) for voice in voices}) == len(voices) == 416


def test_too_many_voices_are_an_error() -> None:
    """The message names the parameter, its bound and its value."""
    section = {**parameters().model_dump(), "voices": 500}
    _, problems = params.check({"datasets": {"demo": section}}, "datasets.demo", Demo)
    assert problems == ["params.yaml: datasets.demo.voices must be at most 416, is 500"]


def test_a_missing_espeak_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the optional dependency is missing, the message says how to install it and how to do without."""
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(PipelineError) as error:
        demo.write(parameters(), tmp_path / "demo")
    assert str(error.value) == (
        "dataset 'demo' needs espeak-ng: run pip install '.[demo]', or choose another dataset in params.yaml"
    )


def test_a_voice_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the voice, the old archive is unchanged, and no temporary file is left."""
    path = tmp_path / "demo"
    path.write_bytes(b"old")
    voices = demo._voices()[:1]
    monkeypatch.setattr(demo, "_voices", lambda: [*voices, "en-xx+Nobody"])
    with pytest.raises(PipelineError, match=r"cannot say 'up' in the voice 'en-xx\+Nobody' \(status 2"):
        demo.write(parameters(voices=2, labels=["up"]), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_label_without_sound_is_an_error(tmp_path: Path) -> None:
    """If espeak says nothing for a label, the message names the label."""
    with pytest.raises(PipelineError, match=r"cannot say '_' .* datasets\.demo\.labels"):
        demo.write(parameters(labels=["_"], voices=1), tmp_path / "demo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["up", "up"]}, "labels that differ"),
        ({"labels": []}, "at least 1 item"),
        ({"labels": ["../up"]}, "match pattern"),
        ({"min_snr": 31.0}, "min_snr at most max_snr"),
        ({"voices": 0}, "greater than or equal to 1"),
    ],
)
def test_bad_parameters_are_refused(changes: dict[str, Any], message: str) -> None:
    """Labels must be different words, since they become folders, and ranges must not be empty."""
    with pytest.raises(ValidationError, match=message):
        parameters(**changes)


def test_recordings_of_noise_differ_in_color(archive: Path) -> None:
    """There are white, pink and brown noise, of the configured length, each darker than the one before.

    A length of 0 leaves them out.
    """
    recordings = {name: waveform(data) for name, data in entries(archive).items() if NOISE in name}
    assert {len(samples) for samples in recordings.values()} == {40_000}
    shares = []
    for color in ("white", "pink", "brown"):
        power = np.abs(np.fft.rfft(recordings[f"{TOP}/{NOISE}/{color}_noise.wav"])) ** 2
        shares.append(power[: len(power) // 8].sum() / power.sum())
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / 8, abs=0.02)
    demo.write(parameters(noise_seconds=0.0), archive.with_name("quiet"))
    assert not [name for name in entries(archive.with_name("quiet")) if NOISE in name]


def test_the_committed_lock_has_the_md5_of_this_archive(tmp_path: Path) -> None:
    """The parameters in dvc.lock give an archive with the md5 in dvc.lock.

    The stage `download` does not depend on code, so DVC does not notice a change of demo.py. If a change
    alters the archive, run dvc repro -f download.
    """
    lock = YAML(typ="safe", pure=True).load(ROOT / "dvc.lock")["stages"]["download"]
    locked = lock["params"]["params.yaml"]
    assert locked["dataset"] == "demo"
    path = tmp_path / "demo"
    demo.write(Demo.model_validate(locked["datasets.demo"]), path)
    assert hashlib.md5(path.read_bytes()).hexdigest() == lock["outs"][0]["md5"]

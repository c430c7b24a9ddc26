"""`python -m pipeline check`."""

import copy
import datetime as dt
import hashlib
import random
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.commands.check import problems_in
from pipeline.corpus.audio import Audio
from pipeline.features import Feature
from pipeline.features.logmel import LogMel
from tests.damage import fuzz
from tests.project import ROOT, pipeline


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(ROOT)
    return copy.deepcopy(params.load())


def _keys(section: Any) -> Iterator[str]:
    if isinstance(section, dict):
        for key, value in section.items():
            yield key
            yield from _keys(value)


def test_the_committed_file_has_no_mistake(content: dict[str, Any]) -> None:
    """params.yaml as committed passes its own check."""
    assert problems_in(content) == []


def test_no_parameter_is_hidden_from_the_run_cache(content: dict[str, Any]) -> None:
    """No parameter is called `size` or `nfiles`: DVC's run-cache would not see it change."""
    assert not {"size", "nfiles"} & set(_keys(content))


def test_every_mistake_of_the_file_is_reported_at_once(content: dict[str, Any]) -> None:
    """Problems in several sections, chosen or not, are listed together."""
    content["audio"]["sample_rate"] = -1
    content["features"]["mfcc"]["n_mfcc"] = 200
    content["models"]["cnn"]["filters"] = [0]
    content["models"]["rnn"]["train"] = {"epochs": 0}
    content["split"]["train"] = 0.5
    content["clips"]["speaker"] = "("
    content["datasets"]["own"]["url"] = "ftp://host/clips.zip"
    content["datasets"]["demo"]["sede"] = 1
    content["other"] = content["modle"] = 1
    lines = problems_in(content)
    for path in (
        "audio.sample_rate must be at least 1000, is -1",
        "features.mfcc must have n_mfcc no greater than n_mels",
        "models.cnn.filters[0] must be at least 1, is 0",
        "models.rnn.train.epochs must be at least 1, is 0",
        "split must have train, val and test that sum to 1, but their sum is 0.7",
        "clips.speaker must be a regular expression",
        "datasets.own.url must be an http(s) URL or a path, is 'ftp://host/clips.zip'",
        "datasets.demo.sede is not a parameter; did you mean seed? Correct the name there, or delete",
        "other is not a parameter; expected one of dataset, feature, model, datasets",
        "modle is not a parameter; did you mean model?",
    ):
        assert any(line.startswith(f"params.yaml: {path}") for line in lines), path
    assert len(lines) == 10


@pytest.mark.parametrize(("choice", "group"), [("dataset", "datasets"), ("feature", "features")])
def test_a_choice_must_be_there(content: dict[str, Any], choice: str, group: str) -> None:
    """A choice must be the name of a section; the message lists them."""
    content[choice] = "other"
    expected = f"params.yaml: {choice} must be one of {', '.join(content[group])}, is 'other'"
    assert problems_in(content) == [expected]


NOT_A_WORD = "must be a word: at most 64 letters (a to z), digits, - or _, and no - at the beginning"


@pytest.mark.parametrize(
    "name", ["v0.02", "/srv/x", "../x", "a b", "", "-x", "x\n", "é", "${x}", "x" * 65, 1, None, True, (1, 2)]
)
@pytest.mark.parametrize("group", ["datasets", "features", "models"])
def test_a_name_is_a_word(content: dict[str, Any], group: str, name: Any) -> None:
    """A name becomes part of paths and of DVC's keys, so it has no dots, slashes, spaces or other signs."""
    section = content[group].popitem()[1]
    content[group][name] = section
    assert problems_in(content) == [f"params.yaml: {params.path_of(group, name)} {NOT_A_WORD}"]


@pytest.mark.parametrize(("choice", "group"), [("dataset", "datasets"), ("feature", "features")])
def test_a_chosen_name_is_a_word(content: dict[str, Any], choice: str, group: str) -> None:
    """A choice that is a path is an error even if a section has that name."""
    content[choice] = "/srv/x"
    content[group]["/srv/x"] = content[group].popitem()[1]
    assert f"params.yaml: {choice} {NOT_A_WORD}, is '/srv/x'" in problems_in(content)


def test_a_name_that_dvc_ignores_is_refused(content: dict[str, Any]) -> None:
    """DVC's run-cache ignores the keys `size` and `nfiles`, so a feature of that name would never change."""
    content["features"]["size"] = content["features"]["stft"]
    assert problems_in(content) == [
        "params.yaml: features.size must not be called size, a name that DVC's run-cache ignores"
    ]


def test_a_feature_without_code_is_named(content: dict[str, Any]) -> None:
    """A kind without a file is named with the file that is expected; so is a section without a kind."""
    content["features"]["mine"] = {"kind": "cqt"}
    content["features"]["other"] = {"n_mels": 64}
    assert problems_in(content) == [
        "params.yaml: features.mine: cqt has no code: expected pipeline/features/cqt.py with a class Cqt",
        "params.yaml: features.other.kind is missing: set it to the name of a file in pipeline/features",
    ]


def test_two_sections_may_have_the_same_kind(content: dict[str, Any]) -> None:
    """A section's kind names its code, so log-mel with 40 and with 64 bands are features side by side."""
    content["features"]["logmel64"] = {**content["features"]["logmel"], "n_mels": 64}
    content["feature"] = "logmel64"
    assert problems_in(content) == []
    content["features"]["logmel64"]["n_mfcc"] = 13
    (problem,) = problems_in(content)
    assert problem.startswith("params.yaml: features.logmel64.n_mfcc is not a parameter")


def test_frames_longer_than_a_clip_are_found_before_any_stage_runs(content: dict[str, Any]) -> None:
    """If n_fft exceeds the samples of a clip, `check` finds it without any audio, centred or not."""
    content["audio"]["duration"] = 1e-6
    (problem,) = problems_in(content)
    assert problem == "params.yaml: audio.duration must be at least 0.001, is 1e-06"
    content["audio"]["duration"] = 0.01
    problems = problems_in(content)
    for name in content["features"]:
        expected = f"params.yaml: features.{name} has no frame in 160 samples: lower its n_fft, 512, or raise"
        assert any(problem.startswith(expected) for problem in problems)
    assert len(problems) == 4


def test_a_single_frame_is_found(content: dict[str, Any]) -> None:
    """A hop that is longer than the clip leaves one frame, from which nothing can be learned about time."""
    content["features"]["logmel"]["hop_length"] = 16001
    (problem,) = problems_in(content)
    expected = "features.logmel has only one frame in 16000 samples: lower its hop_length, 16001, or raise"
    assert problem == f"params.yaml: {expected} audio.duration"


def test_empty_bands_are_found(content: dict[str, Any]) -> None:
    """Bands without a bin of the spectrum are constant; the message says which n_mels and n_fft have none."""
    mfcc = content["features"]["mfcc"]
    mfcc["n_mels"] = 200
    (problem,) = problems_in(content)
    assert problem == (
        "params.yaml: features.mfcc has empty bands: 3 of its 200 mel bands contain no bin of the spectrum,"
        " one every 31.25 Hz: lower n_mels to 192, or raise n_fft to 1024, or widen the range from fmin to"
        " fmax"
    )
    for change in ({"n_mels": 192}, {"n_mels": 200, "n_fft": 1024}):
        mfcc.update(change)
        assert problems_in(content) == []


def test_bands_above_half_the_sample_rate_are_found(content: dict[str, Any]) -> None:
    """If fmin is half of audio.sample_rate, or fmax is above it, mel bands are empty; `check` finds it."""
    content["features"]["logmel"].update(fmin=8000.0, fmax=None)
    (problem,) = problems_in(content)
    assert "features.logmel must have fmin below half of audio.sample_rate, 8000 Hz, has 8000" in problem
    content["features"]["logmel"]["fmin"] = 4000.0
    assert problems_in(content) == []
    content["features"]["logmel"]["fmax"] = 8001.0
    (problem,) = problems_in(content)
    assert "features.logmel must have fmax at most half of audio.sample_rate, 8000 Hz, has 8001" in problem


def test_a_model_on_the_wrong_feature_is_found(content: dict[str, Any]) -> None:
    """The model `speech` needs the feature that it was pretrained on, and the sample rate."""
    content["model"] = "speech"
    (problem,) = problems_in(content)
    assert problem.startswith(
        "params.yaml: models.speech needs the feature that it was pretrained on, but the"
    )
    assert "n_mels 40 instead of 32, fmin 20.0 instead of 60.0" in problem
    content["feature"] = "speech"
    assert problems_in(content) == []
    content["audio"]["sample_rate"] = 22_050
    (problem,) = problems_in(content)
    assert problem.startswith("params.yaml: models.speech needs clips at 16000 Hz")
    content["audio"]["sample_rate"] = 16_000
    content["models"]["speech"]["weights"] = "nofile.onnx"
    (problem,) = problems_in(content)
    assert "has 'nofile.onnx', but there is no such file" in problem


def test_a_teachers_feature_must_be_there(content: dict[str, Any]) -> None:
    """The message lists the features. The value may come from the chosen model's own section."""
    expected = "params.yaml: train.teacher_feature must be null or one of stft, logmel"
    content["train"]["teacher_feature"] = "sft"
    (problem,) = problems_in(content)
    assert problem.startswith(expected)
    content["train"]["teacher_feature"] = None
    content["models"]["dscnn"]["train"]["teacher_feature"] = "sft"
    assert problems_in(content) == []
    content["model"] = "dscnn"
    (problem,) = problems_in(content)
    assert problem.startswith(expected)


def test_a_teachers_file_must_have_its_md5(content: dict[str, Any], tmp_path: Path) -> None:
    """A wrong md5, and no md5, are found before training, and so is a file that is no model.

    Only a file with an md5 may be missing, because a training with it can be downloaded.
    """
    path = tmp_path / "teacher.keras"
    content["train"]["teacher"] = str(path)
    (problem,) = problems_in(content)
    assert problem.startswith("params.yaml: train.teacher is")
    assert "there is no such file" in problem
    path.write_bytes(b"a network")
    assert "it is params.yaml: train.teacher: set it to a copy of" in problems_in(content)[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    for wrong in (None, "0" * 32):
        content["train"]["teacher_md5"] = wrong
        (problem,) = problems_in(content)
        assert f"add -S train.teacher_md5={md5}" in problem
    content["train"]["teacher_md5"] = md5
    assert problems_in(content) == []
    path.unlink()
    assert problems_in(content) == []


def test_noise_needs_a_feature_with_a_graph(content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Training with noise on a feature that no layer computes is found before any stage runs."""
    content["train"]["augment"]["noise"]["probability"] = 0.5
    assert problems_in(content) == []
    monkeypatch.delattr(LogMel, "graph")
    assert (
        "train.augment.noise needs a feature with a `graph`, but logmel has none" in problems_in(content)[0]
    )


def test_a_folder_of_noise_must_have_its_md5(content: dict[str, Any], tmp_path: Path) -> None:
    """A missing folder without an md5 is found, if noise is added. With an md5 it may be missing."""
    noise = content["train"]["augment"]["noise"]
    noise["folder"] = str(tmp_path / "noise")
    assert problems_in(content) == []
    noise["probability"] = 0.5
    assert "noise.folder is " in problems_in(content)[0]
    noise["folder_md5"] = "0" * 32
    assert problems_in(content) == []
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/a.wav").write_text("any")
    assert f"noise.folder_md5 is {'0' * 32}, but the recordings" in problems_in(content)[0]


def test_own_data_without_a_url_is_found(content: dict[str, Any]) -> None:
    """The chosen data set needs a URL; one that is not chosen does not."""
    content["dataset"] = "own"
    assert problems_in(content) == [
        "params.yaml: datasets.own.url must be a URL or a path, is null; dataset is own"
    ]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"http://me:{'pass word'}@host/a.zip", "must have no spaces: write %20 for each"),
        (f" HTTPS://me:{'pass word'}@[host/a.zip", "must have no spaces: write %20 for each"),
        (f"http://me:{'word'}@[::1/a.zip", "must be an http(s) URL or a path, is 'http://***@[::1/a.zip'"),
        ("", "must be an http(s) URL or a path, is ''"),
    ],
)
def test_a_url_that_is_none_is_explained_without_its_password(
    content: dict[str, Any], url: str, message: str
) -> None:
    """Where a password with a space ends is not known, so such a URL is not shown."""
    content["datasets"]["own"]["url"] = url
    assert problems_in(content) == [f"params.yaml: datasets.own.url {message}"]


def test_the_command_prints_only_the_message(content: dict[str, Any], tmp_path: Path) -> None:
    """`python -m pipeline check` prints the problems without a traceback and fails."""
    del content
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("sample_rate: 16000", "sample_rate: -1"))
    result = pipeline("check", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip() == "params.yaml: audio.sample_rate must be at least 1000, is -1"


# --------------------------------------------------------------------------------------------- any content


ABSURD = (10**400, 10**18, 1e300, -1e300, -(10**18), float("inf"), float("nan"))
NASTY: list[Any] = [
    *ABSURD, 0, 1, 2, -1, 511, 2**32, 0.0, 0.5, 1e-300, 16**5000, True, None, "", "a", "null", "1e-5", "\0",
    "a\nb", "\ud800", "x" * 5000, "/dev/zero", "../x", "${x}", "(", "(" * 900 + ")" * 900, "(a){99999999999}",
    "http://[",
    "__init__", "logmel", "given", [], [0], [[]], [None], ["a", "a"], [1] * 20_000, {}, {1: 2}, {None: 1},
    {"kind": "__init__"}, {"kind": 5}, {"train": [1]}, {(1, 2): 3}, {1, 2}, b"a", dt.date(2020, 1, 1),
]  # fmt: skip
KEYS: list[Any] = [
    1,
    None,
    True,
    1.5,
    (1, 2),
    "",
    "a.b",
    "/srv/x",
    "../x",
    "x\ny",
    "\ud800",
    "x" * 10_000,
    "size",
]


def _places(section: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each dict and list in `section`, with each of its keys or indices."""
    keys = section if isinstance(section, dict) else range(len(section)) if isinstance(section, list) else ()
    for key in keys:
        yield section, key
        yield from _places(section[key])


def _mutate(content: dict[str, Any], rng: random.Random) -> None:
    """Replace, scale, remove or rename a value in `content`, or add one."""
    section, key = rng.choice(list(_places(content)))
    value, way = section[key], rng.random()
    if way < 0.6 and type(value) in (int, float) and abs(value) < 1e250:
        factor = rng.choice((0, 0.01, 0.1, 0.5, 0.9, 1.1, 2, 3, 10, 100, 1e4, 1e7))
        section[key] = type(value)(value * factor + rng.choice((0, 1, -1)))
    elif way < 0.8 or isinstance(section, list):
        section[key] = copy.deepcopy(rng.choice(NASTY))  # a second change may be in it
    elif way < 0.85:
        del section[key]
    elif way < 0.9:
        section[rng.choice(KEYS)] = section.pop(key)
    else:
        section[rng.choice(KEYS)] = copy.deepcopy(rng.choice(NASTY))


@fuzz(400)
def test_any_content_is_accepted_or_explained(content: dict[str, Any], generator: random.Random) -> None:
    """After any change each problem is one short line, and each feature that is accepted can be computed."""
    changed = copy.deepcopy(content)
    for _ in range(generator.choice((1, 1, 2))):
        _mutate(changed, generator)
    problems = problems_in(changed)
    for problem in problems:
        assert problem.startswith("params.yaml")
        assert problem.encode().splitlines() == [problem.encode()]
        assert len(problem) < 2000
    if problems:
        return
    audio = Audio(**changed["audio"])
    for name, section in changed["features"].items():
        if audio.samples < 100_000 and (section, audio) != (content["features"].get(name), SOUND):
            _compute(Feature.restore(section), audio)


SOUND = Audio(sample_rate=16_000, duration=1.0, padding="edge", max_rejects=0, truncated="reject")


def _compute(feature: Feature, audio: Audio) -> None:
    waveforms = np.zeros((2, audio.samples), np.float32)
    waveforms[1] = np.random.default_rng(0).uniform(-0.5, 0.5, audio.samples)
    values = feature.kernel(audio.sample_rate)(waveforms)
    assert values.shape == (2, *feature.shape(audio.samples))
    assert np.isfinite(values).all()
    assert np.ptp(values[1]) > 0


def test_every_number_refuses_what_is_absurd(content: dict[str, Any]) -> None:
    """Huge, very negative, infinite and undefined numbers are refused by each parameter that is a number."""
    numbers = [place for place in _places(content) if type(place[0][place[1]]) in (int, float)]
    assert len(numbers) > 150
    for section, key in numbers:
        value = section[key]
        for absurd in ABSURD:
            section[key] = absurd
            (problem,) = problems_in(content)
            assert problem.startswith("params.yaml: ")
        section[key] = value


# ---------------------------------------------------------------------------------------------- check --clips


SPEAKERS = ("anna", "bob", "cleo", "")


def _project(folder: Path, content: dict[str, Any], **clips: Any) -> Path:
    """Write params.yaml and an archive with a few names into `folder`."""
    content["dataset"] = "own"
    content["datasets"]["own"]["url"] = "own.zip"
    content["clips"].update(clips)
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(content, file)
    with zipfile.ZipFile(folder / "own.zip", "w") as archive:
        for name in (
            "x/rain.wav",
            "README.md",
            ".x/1.wav",
            *(f"{d}_{who}_0.wav" for d in "12" for who in SPEAKERS),
        ):
            archive.writestr(f"top/clips/{name}", "not audio")
    return folder


def test_the_clips_of_an_archive_are_listed_by_their_names(content: dict[str, Any], tmp_path: Path) -> None:
    """Labels, clips and speakers are counted, without unpacking: these files are not even audio."""
    folder = _project(
        tmp_path, content, label=r"clips/(\d|x)", speaker=r"\d_([a-z]+)_", recordings=["x"], split="_(0)"
    )
    result = pipeline("check", "--clips", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        f"{folder}/own.zip: 9 clips",
        "label clips speakers such as",
        "1 4 3 clips/1__0.wav",
        "2 4 3 clips/2__0.wav",
        "x 1 0 clips/x/rain.wav (cut into pieces)",
        r"3 speakers by '\d_([a-z]+)_', such as anna, bob, cleo",
        "given splits: none 1, 0 8",
        "left out: 1 file .md; hidden: 1 file .wav, such as clips/.x/1.wav",
        "the split, if there are no exact copies of clips, and without noise:",
        "train val test",
        "1 2 1 1",
        "2 2 1 1",
        "clips 4 2 2",
        "speakers 2 1 2",
        (
            "2 of 8 clips have no speaker by params.yaml: clips, such as clips/1__0.wav: each counts as its"
            " own speaker, so one person may be in two splits"
        ),
    ]
    assert {path.name for path in folder.iterdir()} == {"params.yaml", "own.zip"}


def test_a_download_that_broke_off_is_listed_with_how_to_delete_it(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """The command that is printed deletes what has arrived, and the version beside it."""
    YAML().dump(content, tmp_path / "params.yaml")
    part = Path("data/.unfinished/download-own-0123456789abcdef")
    (tmp_path / part.parent).mkdir(parents=True)
    for path in (part, part.with_name(f"{part.name}.version")):
        (tmp_path / path).write_bytes(b"12345")
    line = pipeline("check", cwd=tmp_path).stdout.splitlines()[0]
    assert line.startswith(f"{part} has 5 bytes of a download that broke off: ")
    command = line.rpartition("run ")[2]
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert list((tmp_path / part.parent).iterdir()) == []


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("task", {"words": ["1", "7"]}, "task.words has '7', but no clip has this label"),
        (
            "split",
            {"method": "given"},
            "has no split for 8 of 8 clips, .*\n  clips/1__0.wav has ''(.|\n)*\nNo clip has a name listed",
        ),
        ("task", {"words": ["1", "x"]}, "task.words has 'x', which is in clips.recordings"),
        ("split", {"method": "list"}, "_list.txt' in the archive, which has these tables and lists: none"),
    ],
)
def test_a_task_and_a_split_that_do_not_fit_are_found_too(
    content: dict[str, Any], tmp_path: Path, section: str, values: dict[str, Any], message: str
) -> None:
    """Words that no clip has, and splits that the archive does not name, are found before any stage runs."""
    folder = _project(tmp_path, content, label=r"clips/(\d|x)", recordings=["x"])
    content[section].update(values)
    _project(folder, content)
    result = pipeline("check", "--clips", cwd=folder)
    assert result.returncode == 1
    assert re.search(message, result.stderr)
    assert "own.zip: 9 clips" in result.stdout


def test_silence_without_recordings_is_found_too(content: dict[str, Any], tmp_path: Path) -> None:
    """task.silence needs noise in the archive, or clips of silence, which are then counted."""
    folder = _project(tmp_path, content, label=r"clips/(\d|x)", recordings=[])
    content["task"].update(words=["1", "2"], silence=0.5)
    _project(folder, content)
    result = pipeline("check", "--clips", cwd=folder)
    assert result.returncode == 1
    assert "task.silence must be 0, because no clip is _silence_" in result.stderr


def test_a_misspelt_label_of_recordings_is_named(content: dict[str, Any], tmp_path: Path) -> None:
    """The default name may be missing, because many archives have no noise."""
    folder = _project(tmp_path, content, label=r"clips/(\d|x)", recordings=["noise"])
    content["task"]["words"] = ["1", "2"]
    _project(folder, content)
    output = pipeline("check", "--clips", cwd=folder).stdout
    assert "no clip has the label noise, which is in params.yaml: clips.recordings" in output


def test_a_pattern_that_fits_nothing_is_found_without_a_run(content: dict[str, Any], tmp_path: Path) -> None:
    """The message has three paths and the pattern, and no traceback."""
    result = pipeline("check", "--clips", cwd=_project(tmp_path, content, label="([a-z]+)_nohash_"))
    assert result.returncode == 1
    assert "'([a-z]+)_nohash_', gives no label to 9 of 9 clips, such as" in result.stderr
    assert result.stderr.count("\n  clips/") == 3
    assert "Traceback" not in result.stderr


def test_a_label_without_a_clip_is_found_without_a_run(content: dict[str, Any], tmp_path: Path) -> None:
    """A folder of files that are not read is named, until it is excluded."""
    folder = _project(tmp_path, content, label=r"clips/(\w)")
    with zipfile.ZipFile(folder / "own.zip", "a") as archive:
        archive.writestr("top/clips/3/a.m4a", "not audio")
    result = pipeline("check", "--clips", cwd=folder)
    assert result.returncode == 1
    assert "\n  3: 1 file .m4a, such as clips/3/a.m4a\n" in result.stderr
    content["extract"]["exclude"] = ["3"]
    _project(tmp_path, content, label=r"clips/(\w)")
    with zipfile.ZipFile(folder / "own.zip", "a") as archive:
        archive.writestr("top/clips/3/a.m4a", "not audio")
    result = pipeline("check", "--clips", cwd=folder)
    assert "clips/3" not in result.stdout + result.stderr


def test_an_archive_that_is_not_there_yet_is_an_error(content: dict[str, Any], tmp_path: Path) -> None:
    """The message says how to fetch it, or that the path is wrong. A copy that was fetched before will do."""
    _project(tmp_path, content)
    (tmp_path / "data/archive").mkdir(parents=True)
    (tmp_path / "own.zip").rename(tmp_path / "data/archive/own")
    assert "data/archive/own: 9 clips" in pipeline("check", "--clips", cwd=tmp_path).stdout
    (tmp_path / "data/archive/own").unlink()
    message = "own.zip is missing: correct params.yaml: datasets.own.url"
    assert message in pipeline("check", "--clips", cwd=tmp_path).stderr
    content["dataset"] = "mini_speech_commands"
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(content, file)
    message = "data/archive/mini_speech_commands is missing: run dvc repro download"
    assert message in pipeline("check", "--clips", cwd=tmp_path).stderr

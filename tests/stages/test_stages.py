"""The stages without TensorFlow."""

import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from ruamel.yaml import YAML

from pipeline.corpus import tables
from pipeline.corpus.paths import LEFT_OUT, LeftOut
from pipeline.errors import PipelineError
from pipeline.store import previous
from pipeline.store.layout import describe
from pipeline.store.layout import digests as digests_of
from pipeline.store.reader import rows
from tests.project import ROOT, read_csv

STAGES = ("decode", "split", "featurize stft", "featurize logmel", "featurize mfcc")
BACKENDS = ("threading", "loky")
NOT_COMPARED = {"kept", ".unfinished", "left_out.csv"}


class Folder:
    """A project's folder: clips in data/raw, and the committed params.yaml."""

    def __init__(self, path: Path, clips: int = 150) -> None:
        self.path = path
        self.params: dict[str, Any] = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
        self.leave_out([])
        generator = np.random.default_rng(0)
        for number in range(clips):
            file = path / f"data/raw/label {number % 3}/s{number * 7 % 30}_nohash_{number // 30}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, generator.uniform(-0.5, 0.5, generator.integers(8000, 16000)), 16000)

    def leave_out(self, names: list[str]) -> None:
        """Write data/left_out.csv, as `extract` does."""
        LEFT_OUT.write(self.path / "data/left_out.csv", map(LeftOut, names))

    def run(self, stage: str, *, jobs: int = 2, **environment: str) -> None:
        """Run the `main` of a stage in the folder."""
        self.write_params()
        name, *args = stage.split()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.path)
            patch.setenv("PIPELINE_JOBS", str(jobs))
            for name_, value in environment.items():
                patch.setenv(name_, value)
            patch.setattr("sys.argv", [name, *args])
            importlib.import_module(f"pipeline.stages.{name}").main()

    def fails(self, stage: str) -> str:
        """Run a stage as dvc does, in its own process; it must fail. Return what it printed."""
        self.write_params()
        name, *args = stage.split()
        result = subprocess.run(
            [sys.executable, "-m", f"pipeline.stages.{name}", *args],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        return result.stderr

    def write_params(self) -> None:
        with (self.path / "params.yaml").open("w") as file:
            YAML(typ="safe").dump(self.params, file)

    def digests(self) -> dict[str, str]:
        return {
            path.relative_to(self.path).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
            for path in sorted((self.path / "data").rglob("*"))
            if path.suffix in (".h5", ".csv") and not NOT_COMPARED & {*path.parts}
        }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "project")


def test_outputs_do_not_depend_on_the_number_of_jobs(folder: Folder, tmp_path: Path) -> None:
    """Tables and stores have the same bytes for 1, 2 and 4 threads or processes, and in another folder."""
    for stage in STAGES:
        folder.run(stage, jobs=1)
    expected = folder.digests()
    assert len(expected) == 7
    for backend in BACKENDS:
        for jobs in (2, 4):
            other = Folder(tmp_path / f"{jobs} {backend}")
            for stage in STAGES:
                other.run(stage, jobs=jobs, PIPELINE_BACKEND=backend)
            assert other.digests() == expected


@pytest.mark.cluster
def test_dask_workers_without_this_folder_give_the_same_bytes(
    folder: Folder, tmp_path: Path, dask: str
) -> None:
    """Workers with neither the clips nor the project's code compute the same files."""
    other = Folder(tmp_path / "other")
    for stage in ("decode", "featurize mfcc"):
        folder.run(stage)
        other.run(stage, PIPELINE_BACKEND="dask", PIPELINE_SCHEDULER=dask)
    assert other.digests() == folder.digests()


def test_only_new_clips_are_computed(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After clips are added, removed, renamed and changed, only new rows are computed.

    The files are the same as those of a first run.
    """
    stages = [stage for stage in STAGES if stage != "split"]
    for stage in stages:
        folder.run(stage)
    other = Folder(tmp_path / "other", clips=156)
    for project in (folder, other):
        raw = project.path / "data/raw"
        (raw / "label 0/s0_nohash_0.wav").unlink(missing_ok=True)
        (raw / "label 1/s7_nohash_0.wav").rename(raw / "label 2/renamed.wav")
        soundfile.write(raw / "label 2/s14_nohash_0.wav", np.full(9000, 0.25), 16000)
    for file in (other.path / "data/raw").glob("*/*_nohash_5.wav"):
        shutil.copy(file, folder.path / file.relative_to(other.path))
    capsys.readouterr()
    for stage in stages:
        folder.run(stage)
        assert "148 copied, 7 to compute" in capsys.readouterr().out
        other.run(stage)
        assert "copied" not in capsys.readouterr().out
    assert folder.digests() == other.digests()


def test_other_code_copies_nothing(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """After a change of the code or of a library, every clip is computed again."""
    folder.run("decode")
    made_by = folder.path / "data/kept/decode/made-by.json"
    for key in json.loads(made_by.read_text()).keys() - {"tables"}:
        folder.run("decode")
        assert "150 copied, 0 to compute" in capsys.readouterr().out
        made_by.write_text(json.dumps({**json.loads(made_by.read_text()), key: "another"}))
        folder.run("decode")
        assert "copied" not in capsys.readouterr().out


def test_a_new_first_clip_causes_one_computation(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """If a new clip becomes the first, no other clip is computed again."""
    folder.run("decode")
    soundfile.write(folder.path / "data/raw/label 0/a.wav", np.full(9000, 0.25), 16000)
    folder.run("decode")
    assert "150 copied, 1 to compute" in capsys.readouterr().out


def _overwrite(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:  # in place, so that links to it see it too
        file.truncate()
        file.write(content)


def _replace_by_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: _overwrite(data / "kept/decode/clips.csv", b""),
        lambda data: _overwrite(data / "kept/decode/clips.csv", b"clip,label\n"),
        lambda data: (data / "kept/decode/clips.csv").unlink(),
        lambda data: _overwrite(data / "kept/decode/waveforms.h5", b"no store"),
        lambda data: _overwrite(data / "waveforms.h5", (data / "waveforms.h5").read_bytes()[:-1]),
        lambda data: _overwrite(data / "waveforms.h5", (data / "waveforms.h5").read_bytes()[:2000]),
        lambda data: (data / "kept/decode/waveforms.h5").unlink(),
        lambda data: _overwrite(data / "kept/decode/made-by.json", b"{"),
        lambda data: _overwrite(data / "kept/decode/made-by.json", b"[]"),
        lambda data: (data / "kept/decode/made-by.json").unlink(),
        lambda data: _replace_by_a_file(data / "kept/decode"),
        lambda data: shutil.rmtree(data / "kept"),
    ],
)
def test_a_damaged_previous_run_is_not_reused(
    folder: Folder, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    """After any damage to data/kept, the next run computes every clip again, and the run after it none."""
    folder.run("decode")
    expected = folder.digests()
    damage(folder.path / "data")
    capsys.readouterr()
    folder.run("decode")
    assert "copied" not in capsys.readouterr().out
    assert folder.digests() == expected
    folder.run("decode")
    assert "150 copied, 0 to compute" in capsys.readouterr().out


def test_an_edited_table_is_not_reused(folder: Folder) -> None:
    """An edit of data/clips.csv does not come back from data/kept."""
    folder.run("decode")
    expected = folder.digests()
    table = folder.path / "data/clips.csv"
    _overwrite(table, table.read_bytes().replace(b",s7,", b",s9,"))
    assert folder.digests() != expected
    folder.run("decode")
    assert folder.digests() == expected


def test_a_run_is_not_saved_if_the_code_is_edited_meanwhile(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of the old code are not saved as rows of the new code."""
    states = iter(["old", "new"])
    with monkeypatch.context() as patch:
        patch.setattr(previous, "code_digest", lambda: next(states))
        folder.run("decode")
    assert "the code was edited during the run" in capsys.readouterr().out
    assert not (folder.path / "data/kept").exists()


def test_outputs_are_complete_if_nothing_can_be_kept(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where data/kept should be is named, and the stage ends with its outputs."""
    (folder.path / "data/kept").touch()
    folder.run("decode")
    assert "data/kept/decode is not updated: " in capsys.readouterr().out
    assert describe(folder.path / "data/waveforms.h5").shape[0] == 150


KILLED = """if True:
    import sys
    from pipeline.stages import {name}
    sys.argv = {argv}
    print("ready", flush=True)
    {name}.main()
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stage", ["decode", "featurize stft"])
def test_a_killed_stage_leaves_nothing_half_written(folder: Folder, stage: str, backend: str) -> None:
    """After SIGKILL at six random moments, each file is complete or absent. A rerun gives the same bytes."""
    folder.run("decode")
    folder.run(stage)
    expected = folder.digests()
    outputs = [name for name in expected if ("stft" in name) == ("stft" in stage)]
    name, *_ = argv = stage.split()
    command = [sys.executable, "-c", KILLED.format(name=name, argv=argv)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PIPELINE_BACKEND": backend, "PIPELINE_JOBS": "2"}
    moments = np.random.default_rng(0).uniform(size=60)
    longest, killed = 60.0, 0
    for moment in (1, *moments):
        for output in outputs:
            (folder.path / output).unlink(missing_ok=True)
        if killed < 3:  # later runs copy the rows that the last complete run saved
            shutil.rmtree(folder.path / "data/kept", ignore_errors=True)
        with subprocess.Popen(
            command, cwd=folder.path, env=env, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            start = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment * longest)
            process.kill()
        longest = min(longest, time.monotonic() - start) if process.returncode == 0 else longest
        killed += process.returncode == -signal.SIGKILL
        assert folder.digests().items() <= expected.items()
        if killed == 6:
            break
    assert killed == 6
    folder.run(stage)
    assert folder.digests() == expected
    assert not (folder.path / "data/.unfinished").exists()


def test_a_store_of_other_parameters_is_refused(folder: Folder) -> None:
    """If you run a stage by hand on outdated waveforms, it names the parameter that differs."""
    folder.run("decode")
    folder.params["audio"]["sample_rate"] = 8000
    output = folder.fails("featurize stft")
    assert (
        "data/waveforms.h5 was made with audio.sample_rate 16000, params.yaml has 8000: run dvc repro"
        in output
    )


def test_stores_are_complete_and_in_the_order_of_clips_csv(folder: Folder) -> None:
    """Checksums are right, rows are in the order of clips.csv, and each store has its parameters."""
    for stage in STAGES:
        folder.run(stage)
    clips = [row["clip"] for row in read_csv(folder.path / "data/clips.csv")]
    assert clips == sorted(clips)
    assert len(clips) == 150
    for name in ("waveforms.h5", "features/stft.h5", "features/mfcc.h5"):
        store = describe(folder.path / "data" / name)
        assert digests_of(rows(store)).tolist() == store.checksums.tolist()
        assert store.clips == clips
        assert store.params["audio"] == {"sample_rate": 16000, "duration": 1.0, "padding": "edge"}
    assert store.params["feature"]["params"]["n_mfcc"] == 39


def test_a_broken_clip_fails_the_stage_and_is_named(folder: Folder) -> None:
    """If audio.max_rejects is 0, a clip that cannot be decoded stops the stage, which writes nothing."""
    (folder.path / "data/raw/label 0/broken.wav").write_text("no audio")
    output = folder.fails("decode")
    assert "1 of 151 clips cannot be decoded, params.yaml: audio.max_rejects allows 0:" in output
    assert "label 0/broken.wav: is in no known format" in output
    assert folder.digests() == {}
    assert {path.name for path in (folder.path / "data").iterdir()} == {"raw", "left_out.csv"}


def test_allowed_rejects_are_listed_and_leave_no_row(folder: Folder) -> None:
    """If rejects are allowed, rejects.csv has them, and the other outputs are as if they did not exist."""
    folder.run("decode")
    good = folder.digests()
    for name in ("label 0/a.wav", "label 2/z.wav"):
        (folder.path / "data/raw" / name).write_text("no audio")
    folder.params["audio"]["max_rejects"] = 2
    folder.run("decode")
    rejects = read_csv(folder.path / "data/rejects.csv")
    assert [row["clip"] for row in rejects] == ["label 0/a.wav", "label 2/z.wav"]
    assert all("is in no known format" in row["reason"] for row in rejects)
    assert {**folder.digests(), "data/rejects.csv": good["data/rejects.csv"]} == good


def test_control_characters_of_names_are_printed_as_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clip cannot colour the terminal, or hide lines."""
    folder = Folder(tmp_path / "project", clips=3)
    path = folder.path / "data/archive/demo"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as file:
        for clip in (folder.path / "data/raw").glob("*/*.wav"):
            file.write(clip, f"{clip.parent.name}/{clip.name}")
        file.writestr("label 0/\x1b[31m.wav", "no audio")
        file.writestr("label 0/b.\x1b[32m", "no clip")
    folder.run("extract")
    assert "label 0/\\x1b[31m.wav: is in no known format" in folder.fails("decode")
    folder.params["audio"]["max_rejects"] = 1
    folder.run("decode")
    printed = capsys.readouterr().out
    assert "left out: 1 file .\\x1b[32m\n" in printed
    assert "rejects.csv has them, such as label 0/\\x1b[31m.wav\n" in printed
    assert "\x1b" not in printed


def test_only_the_first_rejects_are_printed(folder: Folder) -> None:
    """Of many clips that cannot be decoded, the message has 20 and the number of the others."""
    for number in range(30):
        (folder.path / f"data/raw/label 0/broken{number:02}.wav").write_text("no audio")
    output = folder.fails("decode")
    assert output.count("is in no known format") == 20
    assert "\n  and 10 more\nRepair or remove these files, or raise audio.max_rejects\n" in output
    folder.params["audio"]["max_rejects"] = 100
    for file in (folder.path / "data/raw").glob("*/*_nohash_*.wav"):
        file.unlink()
    output = folder.fails("decode")
    assert "30 of 30 clips cannot be decoded, params.yaml: audio.max_rejects allows 29" in output
    assert output.endswith("\n  and 10 more\nRepair or remove these files\n\n")  # no number of rejects helps


def test_clips_that_are_cut_short_are_rejects_or_taken_and_counted(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are in rejects.csv either way, also if their rows are copied from the previous run.

    A recording of noise is cut short as a whole. After a run that took such clips, one that does not takes
    none.
    """
    raw = folder.path / "data/raw"
    (raw / "_background_noise_").mkdir()
    soundfile.write(raw / "_background_noise_/tap.wav", np.zeros(64_000), 16000)
    for name in ("label 0/s0_nohash_0.wav", "_background_noise_/tap.wav"):
        (raw / name).write_bytes((raw / name).read_bytes()[:-16_000])
    output = folder.fails("decode")
    assert "2 of 151 clips cannot be decoded" in output
    assert "label 0/s0_nohash_0.wav: is cut short: its header promises" in output
    assert "_background_noise_/tap.wav@0: is cut short: its header promises 128,000 bytes" in output
    assert "or set audio.truncated to accept, to take clips that are cut short" in output
    folder.params["audio"]["truncated"] = "accept"
    expected = ["_background_noise_/tap.wav@0", "_background_noise_/tap.wav@1"]
    expected += ["_background_noise_/tap.wav@2", "label 0/s0_nohash_0.wav"]
    for copied in (0, 153):
        folder.run("decode")
        rejects = read_csv(folder.path / "data/rejects.csv")
        assert [row["clip"] for row in rejects] == expected
        assert all(row["taken"] == "1" and "is cut short" in row["reason"] for row in rejects)
        printed = capsys.readouterr().out
        assert "4 of 153 clips are cut short, and are taken by params.yaml: audio.truncated" in printed
        assert ("153 copied, 0 to compute" in printed) == bool(copied)
    folder.params["audio"].update(truncated="reject", max_rejects=2)
    folder.run("decode")
    assert "copied" not in capsys.readouterr().out
    rejects = read_csv(folder.path / "data/rejects.csv")
    assert [(row["clip"], row["taken"]) for row in rejects] == [(expected[0], "0"), (expected[3], "0")]
    assert describe(folder.path / "data/waveforms.h5").shape[0] == 149


def test_a_label_whose_clips_are_all_rejects_is_an_error(folder: Folder) -> None:
    """Even if `audio.max_rejects` allows so many rejects, no label vanishes. Other rejects are counted."""
    for clip in sorted((folder.path / "data/raw/label 1").iterdir()):
        clip.write_bytes(b"no audio")
    folder.params["audio"]["max_rejects"] = 100
    message = folder.fails("decode")
    assert "no clip of the label label 1 can be decoded, such as label 1/s" in message
    assert "extract.exclude" in message
    assert not (folder.path / "data/clips.csv").exists()


def test_clips_csv_does_not_depend_on_audio_parameters(folder: Folder) -> None:
    """Another sample rate, duration and padding change the waveforms, but not clips.csv."""
    folder.run("decode")
    before = folder.digests()
    folder.params["audio"].update(sample_rate=8000, duration=0.3, padding="constant")
    folder.run("decode")
    after = folder.digests()
    assert after["data/clips.csv"] == before["data/clips.csv"]
    assert rows(describe(folder.path / "data/waveforms.h5")).shape == (150, 2400)


def test_recordings_are_cut_into_pieces_of_the_duration(folder: Folder) -> None:
    """A recording of 2.6 s is two clips of 1 s, with waveforms and features, and no more than one of 2 s.

    Its pieces are noise, which the split divides, and no label of the task.
    """
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 41600)
    for name in ("rain", "wind"):
        file = folder.path / f"data/raw/_background_noise_/{name}.wav"
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, samples, 16000)
    for stage in STAGES:
        folder.run(stage)
    clips = read_csv(folder.path / "data/clips.csv")
    pieces = [row for row in clips if row["label"] == "_background_noise_"]
    assert [row["clip"] for row in pieces] == [
        f"_background_noise_/{name}.wav@{number}" for name in ("rain", "wind") for number in (0, 1)
    ]
    assert {row["speaker"] for row in pieces} == {
        f"_background_noise_/{name}.wav" for name in ("rain", "wind")
    }
    store = describe(folder.path / "data/waveforms.h5")
    expected = soundfile.read(file, dtype="float32")[0][:32000].reshape(2, 16000)
    np.testing.assert_array_equal(rows(store)[:2], expected)
    split = read_csv(folder.path / "data/split.csv")
    assert [(row["label"], row["noise"]) for row in split[:5]] == [("", "1")] * 4 + [("label 0", "0")]
    folder.params["audio"]["duration"] = 2.0
    folder.run("decode")
    assert [row["clip"] for row in read_csv(folder.path / "data/clips.csv")][:3] == [
        "_background_noise_/rain.wav@0",
        "_background_noise_/wind.wav@0",
        "label 0/s0_nohash_0.wav",
    ]


def test_another_choice_of_words_computes_nothing_but_the_split(folder: Folder) -> None:
    """Other words change split.csv, and no byte of clips.csv, the waveforms and the features."""
    for stage in STAGES:
        folder.run(stage)
    before = folder.digests()
    folder.params["task"].update(words=["label 0", "label 1"], unknown=0.1)
    for stage in STAGES:
        folder.run(stage)
    after = folder.digests()
    assert {name for name in before if before[name] != after[name]} == {"data/split.csv"}
    labels = {row["label"] for row in read_csv(folder.path / "data/split.csv")}
    assert labels == {"label 0", "label 1", "_unknown_", ""}


def write_tables(project: Path, contents: dict[str, str]) -> None:
    """Write data/tables.zip, as `extract` does."""
    opened = {name: partial(io.BytesIO, text.encode()) for name, text in contents.items()}
    tables.write(project / "data/tables.zip", opened)


def test_lists_in_the_archive_split_the_clips(folder: Folder) -> None:
    """With split.method list, the archive's lists decide. A list that names no clip is an error."""
    folder.run("decode")
    clips = [row["clip"] for row in read_csv(folder.path / "data/clips.csv")]
    lists = {"validation_list.txt": "\n".join(clips[::10]), "testing_list.txt": "label 9/other.wav\n"}
    write_tables(folder.path, lists)
    folder.params["split"]["method"] = "list"
    message = "split.lists.test, testing_list.txt, has 1 names such as label 9/other.wav, but none is a clip"
    assert message in folder.fails("split")
    write_tables(folder.path, {**lists, "testing_list.txt": "\n".join(clips[1::10])})
    folder.run("split")
    split = {row["clip"]: row["split"] for row in read_csv(folder.path / "data/split.csv")}
    assert [split[clip] for clip in clips] == (["val", "test"] + ["train"] * 8) * 15


def test_the_split_prints_its_table(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts by label and split are printed, and split.csv has each clip once."""
    folder.run("decode")
    capsys.readouterr()
    folder.run("split")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["train", "val", "test"]
    assert [line.split("  ")[0] for line in lines[1:4]] == ["label 0", "label 1", "label 2"]
    assert len({row["clip"] for row in read_csv(folder.path / "data/split.csv")}) == 150


def test_the_split_counts_clips_without_a_speaker(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Clips that clips.speaker does not match are counted, because one person may then be in two splits."""
    folder.params["clips"]["speaker"] = "/(s1[0-9])_"
    folder.run("decode")
    folder.run("split")
    assert (
        "100 of 150 clips have no speaker by params.yaml: clips, such as label 0/s0_"
        in capsys.readouterr().out
    )


def test_a_label_whose_files_are_all_left_out_stops_decode(folder: Folder) -> None:
    """Its files were in the archive, but none is a clip: the message names the label and the files."""
    folder.leave_out(["label 0/a.txt.m4a", "label 9/a.m4a", "label 9/b.m4a"])
    assert "\n  label 9: 2 files .m4a, such as label 9/a.m4a\nConvert the files" in folder.fails("decode")
    folder.leave_out(["label 0/a.txt.m4a"])
    folder.run("decode")
    assert len(read_csv(folder.path / "data/clips.csv")) == 150
    (folder.path / "data/left_out.csv").unlink()
    assert "data/left_out.csv is missing" in folder.fails("decode")


def test_extract_lists_and_prints_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """left_out.csv has the paths in order, also if there are none. An excluded folder is not in it."""
    folder = Folder(tmp_path / "project", clips=0)
    archive = folder.path / "data/archive/demo"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("yes/a.wav", "no/b.m4a", "no/a.m4a", "README", "docs/x.html"):
            file.writestr(f"top/{name}", b"content")
    folder.params["extract"]["exclude"] = ["docs"]
    folder.run("extract")
    text = "left out: 2 files .m4a, 1 file without suffix; folders without clips: no/ (2 files .m4a)\n"
    assert capsys.readouterr().out.endswith(text)
    content = (folder.path / "data/left_out.csv").read_bytes()
    assert content == b"path\nREADME\nno/a.m4a\nno/b.m4a\n"
    folder.params["extract"]["exclude"] = ["docs", "no", "README"]
    folder.run("extract")
    assert "left out" not in capsys.readouterr().out
    assert (folder.path / "data/left_out.csv").read_bytes() == b"path\n"


@pytest.mark.parametrize("stage", ["featurize stft", "split"])
def test_a_missing_input_is_named(folder: Folder, stage: str) -> None:
    """If you run a stage by hand without its inputs, it names the one that is missing, and what to run."""
    output = folder.fails(stage)
    assert "is missing: run dvc repro" in output


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (shutil.rmtree, "data/raw is missing: run dvc repro extract"),
        (lambda raw: [file.unlink() for file in raw.glob("*/*")], "data/raw contains no clips"),
        (
            lambda raw: (raw / "stray.wav").touch(),
            "clips.label, '([^/]+)/[^/]+$', gives no label to 1 of 151",
        ),
        (lambda raw: (raw / "label 0/link.wav").symlink_to("nowhere"), "label 0/link.wav is not a file"),
        (lambda raw: (raw / "label 0" / os.fsdecode(b"\xff.wav")).touch(), "must have a name in UTF-8"),
    ],
)
def test_a_folder_of_clips_changed_by_hand_is_refused(
    folder: Folder, make: Callable[[Path], None], message: str
) -> None:
    """A folder of clips that somebody changed by hand is an error that says what is wrong."""
    make(folder.path / "data/raw")
    assert message in folder.fails("decode")


@pytest.mark.parametrize("stage", ["decode", "featurize stft"])
def test_a_store_larger_than_the_disk_is_refused(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Before anything is written, the message has both numbers and the parameters to lower."""
    if stage != "decode":
        folder.run("decode")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    pattern = r"needs \d+\.\d MB for data.*, but its disk has 1\.0 kB free: .* params\.yaml"
    with pytest.raises(PipelineError, match=pattern):
        folder.run(stage)
    assert not list((folder.path / "data").rglob("*.part"))


@pytest.mark.parametrize(
    ("stage", "group"), [("download", "datasets"), ("extract", "datasets"), ("featurize /srv/x", "features")]
)
def test_a_name_that_is_a_path_is_refused(folder: Folder, tmp_path: Path, stage: str, group: str) -> None:
    """A stage does not read or write where the name of a data set or a feature leads."""
    name = str(tmp_path / "outside")
    folder.params[group][name] = next(iter(folder.params[group].values()))
    folder.params["dataset"] = name
    with pytest.raises(PipelineError, match="must be a word"):
        folder.run(stage.replace("/srv/x", name))
    assert not Path(name).exists()


def test_frames_longer_than_a_clip_are_refused(folder: Folder) -> None:
    """If n_fft exceeds the samples of a clip, the error names the feature and the samples."""
    folder.params["audio"]["duration"] = 0.01
    folder.run("decode")
    output = folder.fails("featurize stft")
    assert "params.yaml: features.stft has no frame in 160 samples: lower its n_fft" in output

"""`python -m pipeline predict`."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.serving import Predictor
from tests.learning.make import MODELS
from tests.project import ROOT, Record, pipeline, python
from tests.serving import make

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a small model is exported, with twelve recordings."""
    folder = tmp_path_factory.mktemp("project")
    export = folder / "models/export"
    export.mkdir(parents=True)
    make.export(export, MODELS["dscnn"], make.FEATURES["logmel"], "litert", "onnx")
    (folder / "clips/b").mkdir(parents=True)
    for number, clip in enumerate(make.waveforms()[:12]):
        soundfile.write(folder / f"clips/{'b/' if number % 2 else ''}{number:02}.wav", clip, 16000)
    (folder / "clips/notes.txt").write_text("no audio")
    return folder


def test_one_line_a_recording(folder: Path) -> None:
    """A line has the file, its label and probability, and the runners-up. Folders are searched and sorted."""
    result = pipeline("predict", "clips/b", "clips/00.wav", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    paths = [f"clips/b/{number:02}.wav" for number in range(1, 12, 2)] + ["clips/00.wav"]
    predictions = Predictor(folder / "models/export/model.tflite").files(folder / path for path in paths)
    lines = result.stdout.splitlines()
    for path, line, prediction in zip(paths, lines, predictions, strict=True):
        first, second, third = (f"{label} {value:.3f}" for label, value in prediction.probabilities.items())
        assert line == f"{path}  {first}  ({second}, {third})"


def test_json_and_csv(folder: Path) -> None:
    """--json prints an object a line, with every probability, --csv a table with a column for each label."""
    lines = pipeline("predict", "--json", "clips", cwd=folder).stdout.splitlines()
    objects = [json.loads(line) for line in lines]
    assert len(objects) == 12
    assert list(objects[0]["probabilities"]) == make.LABELS
    assert objects[0]["probability"] == max(objects[0]["probabilities"].values())
    rows = list(csv.DictReader(io.StringIO(pipeline("predict", "--csv", "clips", cwd=folder).stdout)))
    assert list(rows[0]) == ["file", "label", "probability", *make.LABELS]
    for row, entry in zip(rows, objects, strict=True):
        assert (row["file"], row["label"]) == (entry["file"], entry["label"])
        assert float(row["go"]) == pytest.approx(entry["probabilities"]["go"], abs=1e-6)


def test_a_file_that_cannot_be_read_is_one_line_and_status_1(folder: Path) -> None:
    """The problem goes to standard error, the other recordings are classified, and the status is 1."""
    result = pipeline("predict", "clips/notes.txt", "clips/00.wav", "none.wav", cwd=folder)
    assert result.returncode == 1
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == ["clips/00.wav"]
    first, second = result.stderr.splitlines()
    assert first.startswith("clips/notes.txt: ")
    assert second == "none.wav: No such file or directory"


def test_what_a_folder_lacks_or_hides_is_said(folder: Path) -> None:
    """A folder without recordings is a problem. Hidden files, as macOS writes them, are skipped."""
    (folder / "empty/__MACOSX").mkdir(parents=True)
    (folder / "empty/._00.wav").write_bytes(b"no sound")
    (folder / "empty/__MACOSX/00.wav").write_bytes(b"no sound")
    result = pipeline("predict", "empty", "clips/00.wav", cwd=folder)
    assert result.returncode == 1
    assert result.stderr.startswith("empty: contains no files that end in one of .")
    assert len(result.stdout.splitlines()) == 1


def test_a_name_that_is_not_utf_8_is_printed(folder: Path) -> None:
    """Bytes of a name that are no text are printed as escapes, and the other files are classified."""
    name = os.fsdecode(b"b\xff.wav")
    (folder / "odd").mkdir()
    for copy in (name, "c.wav"):
        (folder / "odd" / copy).write_bytes((folder / "clips/00.wav").read_bytes())
    result = pipeline("predict", "odd", cwd=folder)
    assert result.returncode == 0
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == ["odd/b\\udcff.wav", "odd/c.wav"]


def test_a_reader_may_stop_early(folder: Path) -> None:
    """`| head -1` gets its line, and no traceback follows."""
    command = f"{sys.executable} -m pipeline predict --json {'clips ' * 40} | head -1"
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout)["file"] == "clips/00.wav"
    assert "Traceback" not in result.stderr


def test_standard_input_is_a_recording(folder: Path) -> None:
    """`-` reads one file of any format from standard input."""
    command = [sys.executable, "-m", "pipeline", "predict", "-"]
    content = (folder / "clips/00.wav").read_bytes()
    result = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, input=content, capture_output=True, check=True
    )
    expected = pipeline("predict", "clips/00.wav", cwd=folder).stdout
    assert result.stdout.decode() == expected.replace("clips/00.wav", "-")


def test_long_recordings(folder: Path, record: Record) -> None:
    """Only the beginning is classified, and a line says so; --window prints when which word is heard."""
    clips = make.waveforms()[:3]
    path = folder / "long.wav"
    soundfile.write(path, np.concatenate(clips), 16000, subtype="FLOAT")
    result = pipeline("predict", "long.wav", cwd=folder)
    assert "longer than 0.5 s: 1 of 1 recordings" in result.stderr
    assert "add --window" in result.stderr
    result = pipeline("predict", "long.wav", "--window", "--hop", "0.5", "--threshold", "0.4", cwd=folder)
    assert result.stderr == ""
    assert [line.rpartition(" ")[0] for line in result.stdout.splitlines()] == [
        "long.wav  0.00 to 0.50 s  go",
        "long.wav  0.50 to 1.00 s  stop",
        "long.wav  1.00 to 1.50 s  yes",
    ]
    result = pipeline("predict", "long.wav", "none.wav", "--window", "--csv", cwd=folder)
    assert re.match(r"file,start,end,label,probability\nlong\.wav,\d\.\d{6},\d\.\d{6},\w+,0\.", result.stdout)
    assert result.stderr == "none.wav: No such file or directory\n"
    assert result.returncode == 1
    for hop in ("0", "nan", "0.6", "inf"):
        result = pipeline("predict", "long.wav", "--window", "--hop", hop, cwd=folder)
        assert f"--hop must be above 0 and at most 0.5 seconds, is {hop}" in result.stderr
    result = pipeline("predict", "long.wav", "--window", "--threshold", "2", cwd=folder)
    assert "--threshold must be from 0 to 1, is 2" in result.stderr
    result = pipeline("predict", "long.wav", "--window", "--threshold", "1", "--csv", cwd=folder)
    assert result.stdout == "file,start,end,label,probability\n"
    assert result.stderr == "long.wav: no word has a probability of 1: lower --threshold\n"
    del record


def test_another_model(folder: Path) -> None:
    """--model takes a model of another format."""
    result = pipeline("predict", "clips/00.wav", "--model", "models/export/model.onnx", cwd=folder)
    assert result.stdout == pipeline("predict", "clips/00.wav", cwd=folder).stdout


def test_many_files_show_progress(folder: Path, record: Record) -> None:
    """More than a batch of files have a bar on a terminal and a line in a log, on standard error."""
    many = record("many/000.wav", samples=800).parent
    for number in range(1, 150):
        (many / f"{number:03}.wav").write_bytes((many / "000.wav").read_bytes())
    result = pipeline("predict", str(many), cwd=folder)
    assert len(result.stdout.splitlines()) == 150
    assert result.stderr.startswith("predict: 150 files in ")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-m", "pipeline", "predict", str(many)]
    result = subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=True,
    )
    assert len(result.stdout.splitlines()) == 150
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # at its end, a terminal raises one
        while block := os.read(ours, 1 << 16):
            shown += block
    os.close(ours)
    assert "150/150" in shown.decode()


def test_no_tensorflow_is_imported(folder: Path) -> None:
    """A cold start needs neither TensorFlow nor Keras, librosa, SciPy or DVC."""
    code = "import sys; from pipeline.commands import predict; predict.main(['clips/00.wav']);"
    code += "print(sorted({'tensorflow', 'keras', 'librosa', 'scipy', 'dvc'} & set(sys.modules)))"
    result = python("-c", code, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"

"""Published data sets, in the form in which people publish them, without repacking.

Each archive has the published one's folders, names and tables, and short recordings of noise or tones.
docs/data.md has the commands, and these tests run them.
"""

import io
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.project import ROOT, Project, read_csv

DIGITS = 10
OFFICIAL = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
Entries = dict[str, bytes]


def _sound(
    seed: int, *, rate: int = 8000, seconds: float = 0.4, kind: str = "WAV", hertz: float = 0
) -> bytes:
    """Return an audio file: noise, and a tone if `hertz` is not 0."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    samples = 0.05 * generator.normal(size=len(time)) + 0.4 * np.sin(2 * np.pi * hertz * time)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def _zip(path: Path, entries: Entries) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _tar(path: Path, entries: Entries) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


# -------------------------------------------------------------------------------------------------- the forms


def fsdd(path: Path) -> None:
    """Free Spoken Digit Dataset, as GitHub packs it: a flat folder of <digit>_<speaker>_<take>.wav."""
    top = "free-spoken-digit-dataset-master"
    entries = {
        f"{top}/recordings/{digit}_{speaker}_{take}.wav": _sound(
            100 * digit + 10 * number + take, hertz=300 + 300 * digit
        )
        for digit in range(DIGITS)
        for number, speaker in enumerate(SPEAKERS)
        for take in range(3)
    }
    others = ("README.md", "metadata.py", "utils/trimmer.py", "requirements.txt", ".gitignore")
    _zip(path, {**{f"{top}/{name}": b"text\n" for name in others}, **entries})


def urbansound(path: Path) -> None:
    """UrbanSound8K: folds 1 to 10, <fsID>-<classID>-<occurrence>-<slice>.wav, and a table."""
    classes = {0: "air_conditioner", 3: "dog_bark", 8: "siren"}
    rows, entries = ["slice_file_name,fsID,start,end,salience,fold,classID,class"], {}
    for fold in range(1, 11):
        for number, (class_id, name) in enumerate(classes.items()):
            recording = 100_000 + 10 * fold + number
            for part in range(2):
                file = f"{recording}-{class_id}-0-{part}.wav"
                entries[f"UrbanSound8K/audio/fold{fold}/{file}"] = _sound(recording + part, rate=44100)
                rows.append(f"{file},{recording},0.0,0.4,1,{fold},{class_id},{name}")
    entries["UrbanSound8K/metadata/UrbanSound8K.csv"] = "\n".join(rows).encode()
    for name in ("FREESOUNDCREDITS.txt", "UrbanSound8K_README.txt", "audio/.DS_Store"):
        entries[f"UrbanSound8K/{name}"] = b"text\n"
    _tar(path, entries)


def esc(path: Path) -> None:
    """ESC-50, as GitHub packs it: audio/<fold>-<source>-<take>-<target>.wav, and meta/esc50.csv."""
    rows, entries = ["filename,fold,target,category,esc10,src_file,take"], {}
    for fold in range(1, 6):
        for target, category in enumerate(("dog", "rooster", "rain")):
            source = 1000 * fold + target
            for take in "AB":
                file = f"{fold}-{source}-{take}-{target}.wav"
                entries[f"ESC-50-master/audio/{file}"] = _sound(source + ord(take), rate=44100)
                rows.append(f"{file},{fold},{target},{category},True,{source},{take}")
    entries["ESC-50-master/meta/esc50.csv"] = ("\r\n".join(rows) + "\r\n").encode()
    for name in (
        "README.md",
        "LICENSE",
        "requirements.txt",
        "meta/esc50-human.xlsx",
        "tests/test_dataset.py",
    ):
        entries[f"ESC-50-master/{name}"] = b"text\n"
    _zip(path, entries)


def common_voice(path: Path) -> None:
    """Common Voice, single words: clips/<name>.mp3 of one language, and TSVs. Not all are validated."""
    top = "cv-corpus-7.0-singleword/en"
    header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\tlocale\tsegment"
    rows, entries = [header], {}
    for number in range(60):
        file = f"common_voice_en_{20_000_000 + number}.mp3"
        entries[f"{top}/clips/{file}"] = _sound(number, rate=32000, kind="MP3")
        if number % 10:
            word = ("yes", "no", "Firefox")[number % 3]
            rows.append(f"{number % 12:064x}\t{file}\t{word}\t2\t0\t\t\t\ten\tBenchmark")
    for name in ("validated", "train"):
        entries[f"{top}/{name}.tsv"] = ("\n".join(rows) + "\n").encode()
    _tar(path, entries)


def folders(path: Path) -> None:
    """Speech Commands: ./<word>/<speaker>_nohash_<take>.wav, noise recordings, and lists of val and test."""
    entries = {"./README.md": b"text\n", "./LICENSE": b"text\n"}
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for number, word in enumerate((*OFFICIAL, "cat", "dog")):
        for speaker in range(20):
            file = f"{word}/{speaker:08x}_nohash_0.wav"
            entries[f"./{file}"] = _sound(100 * number + speaker, rate=16000, hertz=300 + 100 * number)
            if speaker < 4:
                lists["validation" if speaker % 2 else "testing"].append(file)
    for name in ("pink_noise", "running_tap"):
        entries[f"./_background_noise_/{name}.wav"] = _sound(7, rate=16000, seconds=20.5)
    entries["./_background_noise_/README.md"] = b"text\n"
    for name, files in lists.items():
        entries[f"./{name}_list.txt"] = ("\n".join(files) + "\n").encode()
    _tar(path, entries)


FORMS: dict[str, Callable[[Path], None]] = {
    "free-spoken-digit-dataset-master.zip": fsdd,
    "UrbanSound8K.tar.gz": urbansound,
    "ESC-50-master.zip": esc,
    "cv-corpus-7.0-singleword.tar.gz": common_voice,
    "speech_commands_v0_02": folders,
}


# ----------------------------------------------------------------------------------------------- the commands


def _overrides(name: str, number: int = 0) -> list[str]:
    """Return the arguments of a command in docs/data.md that has `name` in it."""
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8").replace("\\\n", " ")
    command = [line for line in text.splitlines() if line.startswith("dvc exp run") and name in line][number]
    return [word for flag, word in pairwise(shlex.split(command)) if flag == "-S"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the committed params.yaml."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path


def _prepare(folder: Path, name: str, *, number: int = 0) -> None:
    """Write the archive, and set the parameters of its command, as `dvc exp run -S` does."""
    from dvc.utils.hydra import apply_overrides

    FORMS[name](folder / "archive")
    overrides = _overrides(name, number)
    dataset = "speech_commands_v0_02" if name == "speech_commands_v0_02" else "own"
    overrides += [f"datasets.{dataset}.url={folder / 'archive'}", f"datasets.{dataset}.sha256=null"]
    apply_overrides(folder / "params.yaml", overrides)


def _run(folder: Path, *modules: str) -> str:
    """Run stages and commands, and return what they print."""
    output = ""
    for module in modules:
        result = subprocess.run(
            [sys.executable, "-m", *module.split()],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        output += result.stdout
    return output


def _stages(folder: Path, *names: str) -> str:
    return _run(folder, *(f"pipeline.stages.{name}" for name in names))


def _table(folder: Path) -> dict[str, tuple[str, str]]:
    """Return clips and speakers of each label, as `check --clips` prints them."""
    output = _run(folder, "pipeline check --clips")
    return {
        match[1]: (match[2], match[3])
        for match in re.finditer(r"^(\w+) +(\d+) +(\d+)  \S", output, re.MULTILINE)
    }


def test_digits_in_a_flat_folder(folder: Path) -> None:
    """Free Spoken Digit Dataset: ten labels and six speakers, each in one split."""
    _prepare(folder, "free-spoken-digit-dataset-master.zip")
    assert _table(folder) == {str(digit): ("18", "6") for digit in range(DIGITS)}
    _stages(folder, "download", "extract", "decode", "split")
    clips = read_csv(folder / "data/clips.csv")
    assert clips[0]["clip"] == "recordings/0_george_0.wav"
    assert {(row["label"], row["speaker"]) for row in clips} == {
        (str(d), s) for d in range(DIGITS) for s in SPEAKERS
    }
    split_of = {row["clip"]: row["split"] for row in read_csv(folder / "data/split.csv")}
    assert len({(row["speaker"], split_of[row["clip"]]) for row in clips}) == len(SPEAKERS)


def test_folds_with_a_table(folder: Path) -> None:
    """UrbanSound8K: labels are the table's classes, and folds 9 and 10 are val and test."""
    _prepare(folder, "UrbanSound8K.tar.gz")
    assert _table(folder) == dict.fromkeys(("air_conditioner", "dog_bark", "siren"), ("20", "10"))
    _stages(folder, "download", "extract", "decode", "split")
    for row in read_csv(folder / "data/split.csv"):
        fold = int(re.findall(r"fold(\d+)", row["clip"])[0])
        assert row["split"] == {9: "val", 10: "test"}.get(fold, "train")


def test_a_flat_folder_with_a_table(folder: Path) -> None:
    """ESC-50: labels are the table's categories, and folds 4 and 5 are val and test."""
    _prepare(folder, "ESC-50-master.zip")
    assert _table(folder) == dict.fromkeys(("dog", "rain", "rooster"), ("10", "5"))
    _stages(folder, "download", "extract", "decode", "split")
    for row in read_csv(folder / "data/split.csv"):
        assert row["split"] == {"4": "val", "5": "test"}.get(row["clip"].split("/")[1][0], "train")


def test_a_corpus_with_a_tsv(folder: Path) -> None:
    """Common Voice: only validated clips are used, and no client is in two splits."""
    _prepare(folder, "cv-corpus-7.0-singleword.tar.gz")
    assert {name: clips for name, (clips, _) in _table(folder).items()} == {
        "yes": "18",
        "no": "18",
        "Firefox": "18",
    }
    output = _stages(folder, "download", "extract", "decode", "split")
    assert "not in en/validated.tsv: 6 clips, such as en/clips/common_voice_en_2" in output
    clips = read_csv(folder / "data/clips.csv")
    assert len(clips) == 54
    split_of = {row["clip"]: row["split"] for row in read_csv(folder / "data/split.csv")}
    assert len({(row["speaker"], split_of[row["clip"]]) for row in clips}) == 12


def test_the_official_lists_and_an_open_set(folder: Path) -> None:
    """Speech Commands, twelve classes: the published lists are val and test, and other words are unknown.

    Unknown clips and silence are a tenth of the words.
    """
    _prepare(folder, "speech_commands_v0_02")
    assert _table(folder)["_background_noise_"] == ("2", "0")
    _stages(folder, "download", "extract", "decode", "split")
    counts = Counter((row["label"], row["split"]) for row in read_csv(folder / "data/split.csv"))
    assert {label for label, _ in counts} == {*OFFICIAL, "_unknown_", "_silence_", ""}
    assert {counts[word, "val"] for word in OFFICIAL} == {counts[word, "test"] for word in OFFICIAL} == {2}
    for split, words in (("train", 160), ("val", 20), ("test", 20)):
        assert counts["_unknown_", split] == counts["_silence_", split] == words // 10


def test_all_words_of_the_official_archive(folder: Path) -> None:
    """Speech Commands, all words: the same lists, and no other class."""
    _prepare(folder, "speech_commands_v0_02", number=1)
    _stages(folder, "download", "extract", "decode", "split")
    rows = [row for row in read_csv(folder / "data/split.csv") if row["label"]]
    assert {row["label"] for row in rows} == {*OFFICIAL, "cat", "dog"}
    assert Counter(row["split"] for row in rows) == {"train": 192, "val": 24, "test": 24}


@pytest.mark.tensorflow
def test_digits_to_a_trained_model(finished: Path, tmp_path: Path) -> None:
    """Free Spoken Digit Dataset: the command of docs/data.md trains a model that tells the digits apart."""
    project = Project(tmp_path / "home" / "project", copied=finished)
    archive = "free-spoken-digit-dataset-master.zip"
    FORMS[archive](project.path / archive)
    changes = ("models.resnet.width=0.25", "models.resnet.train.epochs=30")
    overrides = [*_overrides(archive), *changes, "models.resnet.train.batch_size=16"]
    project.run("dvc", "exp", "run", *(word for value in overrides for word in ("-S", value)), "evaluate")
    labels = read_csv(project.path / "results/labels.csv")
    assert [row["label"] for row in labels] == [str(digit) for digit in range(DIGITS)]
    predictions = read_csv(project.path / "results/predictions.csv")
    assert len({row["clip"].split("_")[1] for row in predictions}) < len(SPEAKERS)
    right = sum(row["truth"] == row["prediction"] for row in predictions)
    assert right / len(predictions) > 0.6

"""The report: its content, its reproducibility, and how a browser shows it."""

import html
import io
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from selenium.webdriver.common.by import By

from pipeline.corpus import clips
from pipeline.corpus.clips import Reject
from pipeline.errors import PipelineError
from pipeline.stages import report
from pipeline.store.layout import describe
from tests import browser
from tests.project import Project, read_csv
from tests.store.make import change_row

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def page(finished: Path) -> Path:
    """The page of a finished run: 24 clips of three words."""
    return finished / "results" / "report.html"


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data and results of a finished run, in the current folder."""
    for name in ("data", "results"):
        shutil.copytree(
            finished / name, tmp_path / name, ignore=shutil.ignore_patterns("raw", "archive", "kept")
        )
    shutil.copy(finished / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Project:
    """A copy of the finished run in another folder."""
    return Project(tmp_path / "elsewhere" / "project", copied=finished)


def _text(page: Path) -> str:
    """Return the page's words, separated by single blanks."""
    content = re.sub(r"<style\b.*?</style>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content)).split())


def test_the_page_is_the_same_bytes_again_and_elsewhere(page: Path, project: Project) -> None:
    """In a folder of another name, examples and page are the same bytes, and no other file appears."""
    before = {path: path.read_bytes() for path in (project.path / "results").rglob("*") if path.is_file()}
    shutil.rmtree(project.path / "results" / "examples")
    (project.path / "results" / "report.html").unlink()
    for stage in ("examples", "report"):
        project.run(sys.executable, "-m", f"pipeline.stages.{stage}")
    after = {path: path.read_bytes() for path in (project.path / "results").rglob("*") if path.is_file()}
    assert after == before
    assert (project.path / "results" / "report.html").read_bytes() == page.read_bytes()


def test_the_page_needs_nothing_but_itself(page: Path) -> None:
    """It has no script, and every address in it is data within it or a place on the page."""
    content = page.read_text(encoding="utf-8")
    assert "<script" not in content
    addresses = re.findall(r'(?:\bsrc|\bhref|xlink:href)="([^"]*)"|url\(([^)]*)\)', content)
    assert len(addresses) > 20
    assert {re.split(r"[:\w]", one or two, maxsplit=1)[0] or "data:" for one, two in addresses} <= {
        "data:",
        "#",
    }
    assert all((one or two).startswith(("data:", "#")) for one, two in addresses)
    assert "@import" not in content


def test_a_script_in_a_picture_or_a_name_does_not_run(folder: Path) -> None:
    """A picture of somebody else is embedded as an image, and every name is escaped.

    The page's policy forbids scripts, whatever else is in it.
    """
    picture = folder / "results/examples/0.svg"
    evil = "<script>document.title = 'evil'</script>"
    picture.write_text(
        picture.read_text(encoding="utf-8").replace("</svg>", f"{evil}</svg>"), encoding="utf-8"
    )
    name = 'go/"><img src=x onerror="alert(1)">.wav'
    rejects = folder / "data/rejects.csv"
    clips.REJECTS.write(rejects, [Reject(name, "javascript:alert(1) <script>", taken=False)])
    report.main()
    content = (folder / "results/report.html").read_text(encoding="utf-8")
    assert "<script" not in content
    assert "<svg" not in content
    assert "onerror=" not in re.sub(r"&#34;&gt;&lt;img src=x onerror=&#34;", "", content)
    assert html.escape(name).replace("&quot;", "&#34;") in content
    assert "default-src 'none'" in content
    addresses = re.findall(r'\bsrc="([^"]{30})', content)
    assert {address.partition(",")[0].partition(";")[0] for address in addresses} == {
        "data:image/svg+xml",
        "data:audio/flac",
    }
    with browser.opened(folder / "results/report.html", width=1400, dark=False) as driver:
        assert "evil" not in driver.title
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]


DAMAGES = [
    ("results/metrics.json", lambda _: "", "metrics.json is empty"),
    ("results/metrics.json", lambda text: text[:-9], "metrics.json is not JSON"),
    (
        "results/metrics.json",
        lambda text: re.sub(r"0\.\d+", "NaN", text),
        "must have finite numbers, has NaN",
    ),
    ("results/metrics.json", lambda text: text.replace("macro", "micro"), "macro_f1 is missing"),
    ("results/metrics.json", lambda text: text.replace('"clips": 3', '"clips": 4'), "is of another run or"),
    ("results/metrics.json", lambda text: text.replace('"epoch": 1', '"epoch": 2'), "has the best epoch 1"),
    ("results/predictions.csv", lambda text: text.partition("\n")[0] + "\n", "predictions.csv has no rows"),
    ("results/predictions.csv", lambda text: text[:-3], "predictions.csv is cut short"),
    ("results/predictions.csv", lambda text: text.replace(",0.", ",nan0."), "column probability: expected"),
    ("results/predictions.csv", lambda text: text.replace("go/", "no/"), "predictions.csv is of another run"),
    ("results/labels.csv", lambda text: text.replace("go,", "no,"), "labels.csv is of another run"),
    ("results/layers.csv", lambda _: "", "layers.csv is empty"),
    (
        "results/noise.csv",
        lambda text: text.replace("20,0.", "20,0.9"),
        "noise.csv and metrics.json are of diff",
    ),
    ("results/noise.csv", lambda _: "snr,accuracy\n", "noise.csv and metrics.json are of different runs"),
    (
        "results/export.json",
        lambda _: '{"onnx": {"accuracy": 1.0}}',
        "must have accuracy, max_difference and",
    ),
    ("results/train/metrics.json", lambda _: "{}", "train/metrics.json: best is missing"),
    ("results/train/plots/metrics/val/loss.tsv", lambda text: text[:10], "has no rows"),
    (
        "results/train/plots/metrics/val/loss.tsv",
        lambda _: "step\tloss\n1\tnan\n",
        "column loss: expected a fin",
    ),
    ("results/examples/index.json", lambda _: '{"clips": [], "features": {}}', "index.json: clips: expected"),
    ("results/examples/index.json", lambda text: text.replace('"go"', '"no"'), "has other clips than one of"),
    (
        "results/examples/index.json",
        lambda text: text.replace('"stft"', '"../stft"', 1),
        "features.0: expected",
    ),
    ("results/examples/0.svg", lambda text: text[: len(text) // 2], "0.svg is not an SVG picture"),
    ("results/examples/0.svg", lambda _: "", "0.svg is not an SVG picture"),
    ("data/clips.csv", lambda text: text.replace("wav,go,", "wav,no,", 1), "is 'no', but 'go' by its path"),
    ("data/split.csv", lambda text: text.replace("test", "tset"), "column split: expected to match pattern"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES)
def test_a_damaged_result_is_one_message(
    folder: Path, name: str, damage: Callable[[str], str], message: str
) -> None:
    """The report names the file, and writes no page. A missing file is named too."""
    path = folder / name
    (folder / "results/report.html").unlink()
    old = path.read_text(encoding="utf-8")
    path.write_text(damage(old), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != old
    with pytest.raises(PipelineError, match=message) as error:
        report.main()
    assert "\n" not in str(error.value)
    assert "dvc checkout" in str(error.value)
    path.unlink()
    with pytest.raises(PipelineError, match=rf"{re.escape(name)} is missing: run dvc repro"):
        report.main()
    assert not (folder / "results/report.html").exists()


@pytest.mark.parametrize("name", ["waveforms.h5", "features/stft.h5"])
def test_a_row_that_has_changed_is_not_drawn(folder: Path, name: str) -> None:
    """The message names a clip among the mistakes or the least sure ones, whose row is not as it was."""
    path = folder / "data" / name
    for row in range(1, len(describe(path).clips) - 1):  # the first and the last are compared at once
        change_row(path, row)
    (folder / "results/report.html").unlink()
    with pytest.raises(PipelineError, match=rf"{name}: the row of .* has changed since it was written"):
        report.main()
    assert not (folder / "results/report.html").exists()


def test_counts_are_those_of_the_tables(page: Path, finished: Path) -> None:
    """Clips and speakers by label and split, the confusion matrix and the scores are those of the tables."""
    splits = {row["clip"]: row["split"] for row in read_csv(finished / "data/split.csv")}
    clips = read_csv(finished / "data/clips.csv")
    text = _text(page)
    for label in ("go", "stop", "yes"):
        cells = []
        for split in ("train", "val", "test"):
            found = [row for row in clips if row["label"] == label and splits[row["clip"]] == split]
            cells.append(f"{len(found)} ({len({row['speaker'] for row in found})})")
        assert " ".join([label, *cells]) in text
    counts = Counter(
        (row["truth"], row["prediction"]) for row in read_csv(finished / "results/predictions.csv")
    )
    for truth in ("go", "stop", "yes"):
        row = [str(counts[truth, guess]) for guess in ("go", "stop", "yes") if counts[truth, guess]]
        assert " ".join([truth, *row]) in text
    scores = json.loads((finished / "results/metrics.json").read_text())
    assert f"{100 * scores['accuracy']:.1f} % test accuracy" in text
    assert "Rejected clips: none" in text
    for score in read_csv(finished / "results/labels.csv"):
        shares = [f"{100 * float(score[column]):.1f} %" for column in ("precision", "recall", "f1")]
        assert " ".join([score["label"], *shares, score["clips"]]) in text


def test_mistakes_are_sorted_by_confidence(page: Path, finished: Path) -> None:
    """Wrong predictions fall in confidence, right ones rise, and each clip has a player."""
    predictions = read_csv(finished / "results/predictions.csv")
    wrong, right = (
        _text(page)
        .partition("Wrong with the most confidence")[2]
        .partition("Right with the least confidence")[::2]
    )
    for text, expected in (
        (wrong, sorted((p for p in predictions if p["truth"] != p["prediction"]), key=_confidence)[::-1]),
        (right, sorted((p for p in predictions if p["truth"] == p["prediction"]), key=_confidence)),
    ):
        shown = re.findall(r"\w+ , predicted \w+ at [\d.]+ % (\S+)", text)
        assert shown == [prediction["clip"] for prediction in expected[:8]]
    for prediction in predictions:
        assert f'aria-label="{prediction["clip"]}"' in page.read_text(encoding="utf-8")


def _confidence(row: dict[str, str]) -> float:
    return float(row["probability"])


def test_rejected_clips_are_listed_with_their_reasons(project: Project) -> None:
    """The page shows names and reasons of rejects.csv unchanged, even if they look like HTML.

    Clips that are cut short, but taken, are in a table of their own.
    """
    rejects = project.path / "data" / "rejects.csv"
    rejected, taken = 'go/<b>1.wav,"Format, not recognised",0\n', "go/a.wav,is cut short,1\n"
    rejects.write_text(f"clip,reason,taken\n{rejected}{taken}", encoding="utf-8")
    project.run(sys.executable, "-m", "pipeline.stages.report")
    text = _text(project.path / "results" / "report.html")
    assert "Rejected clips: 1 clip reason go/<b>1.wav Format, not recognised" in text
    assert "Clips that are cut short, but taken: 1 clip reason go/a.wav is cut short" in text


def test_mistakes_can_be_left_out(project: Project) -> None:
    """With report.mistakes 0 the page shows no clip, but still the number of mistakes."""
    project.set_params({"report.mistakes": 0})
    project.run(sys.executable, "-m", "pipeline.stages.report")
    text = _text(project.path / "results" / "report.html")
    predictions = read_csv(project.path / "results/predictions.csv")
    wrong = sum(row["truth"] != row["prediction"] for row in predictions)
    assert f"The model gets {wrong} of {len(predictions)} test clips wrong." in text
    assert "Wrong with the most confidence" not in text


def test_the_task_is_on_the_page(page: Path, project: Project) -> None:
    """The page names the words, the clips that are added to them, and the noise; and it has their scores.

    The metrics have these scores too.
    """
    assert "tells 3 words apart: go, stop, yes. There are pieces of noise: 24 in train," in _text(page)
    noise = {"train.augment.noise.probability": 0.5, "train.augment.noise.gain": 3.0}
    weights = {"train.class_weights": {"_unknown_": 2.0}}
    project.set_params(
        {"task.words": ["go", "stop"], "task.unknown": 0.2, "task.silence": 0.2} | noise | weights
    )
    for stage in ("split", "train", "evaluate", "report"):
        project.run(sys.executable, "-m", f"pipeline.stages.{stage}")
    text = _text(project.path / "results" / "report.html")
    counts = Counter(row["label"] for row in read_csv(project.path / "data/split.csv"))
    assert "tells 2 words apart: go, stop." in text
    assert f"{counts['_unknown_']} clips of other labels are joined as _unknown_ ." in text
    assert f"{counts['_silence_']} clips are _silence_ ." in text
    assert "A share of 0.5 of its training clips got noise, at 0.0 to 20.0 dB. Their volume was" in text
    scores = json.loads((project.path / "results/metrics.json").read_text())
    clips_of = {row["label"]: row["clips"] for row in read_csv(project.path / "results/labels.csv")}
    unknown = f"{scores['unknown_as_word']} of {clips_of['_unknown_']} unknown clips"
    silence = f"{scores['silence_as_word']} of {clips_of['_silence_']} silences"
    assert f"taken for a word: {unknown}, {silence}" in text
    in_noise = read_csv(project.path / "results/noise.csv")
    assert [row["snr"] for row in in_noise] == ["20", "10", "5", "0"]
    mean = sum(float(row["accuracy"]) for row in in_noise) / 4
    assert scores["noisy"] == pytest.approx(mean, abs=1e-6)
    assert f"{100 * mean:.1f} % accuracy in noise" in text


def test_a_run_without_noise_has_no_scores_in_noise(project: Project) -> None:
    """If there are no noise recordings, noise.csv is empty, and the page and DVC's plots do without it."""
    project.set_params({"clips.recordings": [], "extract.exclude": ["_background_noise_"]})
    output = project.run("dvc", "repro")
    assert "the test split has no noise, so there are no scores in noise" in output
    assert (project.path / "results/noise.csv").read_text() == "snr,accuracy\n"
    assert "noisy" not in json.loads((project.path / "results/metrics.json").read_text())
    text = _text(project.path / "results" / "report.html")
    assert "in noise" not in text
    project.run("dvc", "plots", "show", "--out", "plots")


def test_origin_has_parameters_and_finds_the_commit(page: Path, project: Project) -> None:
    """The page has every parameter of the run, and its command finds the run's commit."""
    text = _text(page)
    for line in ("audio.sample_rate 16000", "features.mfcc.n_mfcc 39", "train.epochs 1", 'dataset "demo"'):
        assert line in text
    command = re.search(r"git log -S .*? -- dvc\.lock", text)
    assert command
    found = project.run("bash", "-c", command[0].replace("git log", "git log --format=%H"))
    assert found.split() == project.run("git", "rev-parse", "HEAD").split()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_and_plays_it(page: Path, finished: Path, width: int, dark: bool) -> None:
    """Without a network, on a phone and on a desktop, light and dark, the page is complete.

    There is no error and no overflow. Each player has the duration of a clip, each picture has a size, and
    each word has enough contrast.
    """
    with browser.opened(page, width=width, dark=dark) as driver:
        index = json.loads((finished / "results/examples/index.json").read_text())
        shown = len(read_csv(finished / "results/predictions.csv"))
        players = browser.durations(driver)
        assert len(players) == sum(1 + len(example["audible"]) for example in index["clips"]) + shown
        assert players == pytest.approx([1.0] * len(players), abs=1e-4)
        pictures = driver.find_elements(By.CSS_SELECTOR, "figure > img")
        sizes = [picture.size for picture in pictures]
        assert len(sizes) >= sum(1 + len(example["features"]) for example in index["clips"]) + 4 + shown
        assert all(size["width"] > 200 and size["height"] > 100 for size in sizes)
        decoded = driver.execute_async_script(
            """
            const done = arguments[0];
            Promise.all([...document.querySelectorAll("figure > img")].map(async image => {
                await image.decode();
                return image.naturalWidth;
            })).then(done);
            """
        )
        assert len(decoded) == len(sizes)
        assert min(decoded) > 200
        # The text of a picture is dark on a light page, and light on a dark one.
        screenshot = imread(io.BytesIO(pictures[0].screenshot_as_png))
        shown = (255 * screenshot[..., :3].mean(axis=2)).astype(int)
        assert (np.bincount(shown.ravel()).argmax() < 60) == dark  # the paper
        assert (shown.max() > 200) if dark else (shown.min() < 60)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", background))) < 60) == dark
        assert browser.unreadable(driver) == []
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]

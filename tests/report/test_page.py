"""The report: what it shows, that it stays the same, and how a browser shows it."""

import html
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from pipeline.files import read_csv
from tests import browser
from tests.project import Project

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def page(finished: Path) -> Path:
    """The page of a finished run: 24 clips of three words."""
    return finished / "results" / "report.html"


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Project:
    """A copy of the finished run, elsewhere."""
    return Project(tmp_path / "elsewhere" / "project", copied=finished)


def _text(page: Path) -> str:
    """The page's words, without its pictures, each run of blanks as one."""
    content = re.sub(r"<(style|svg)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content)).split())


def test_the_page_is_the_same_bytes_again_and_elsewhere(page: Path, project: Project) -> None:
    """Examples and page, made anew in a folder of another name, are the same bytes, and no other file."""
    before = {path: path.read_bytes() for path in (project.path / "results").rglob("*") if path.is_file()}
    shutil.rmtree(project.path / "results" / "examples")
    (project.path / "results" / "report.html").unlink()
    for stage in ("examples", "report"):
        project.run(sys.executable, "-m", f"pipeline.stages.{stage}")
    after = {path: path.read_bytes() for path in (project.path / "results").rglob("*") if path.is_file()}
    assert after == before
    assert (project.path / "results" / "report.html").read_bytes() == page.read_bytes()


def test_the_page_needs_nothing_but_itself(page: Path) -> None:
    """No script, and nothing fetched: every address in it is data within it or a place on the page."""
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


def test_counts_are_those_of_the_tables(page: Path, finished: Path) -> None:
    """Clips and speakers by label and side, and the confusion matrix, are what the tables have."""
    sides = {row["clip"]: row["split"] for row in read_csv(finished / "data/split.csv")}
    clips = read_csv(finished / "data/clips.csv")
    text = _text(page)
    for label in ("go", "stop", "yes"):
        cells = []
        for side in ("train", "val", "test"):
            found = [row for row in clips if row["label"] == label and sides[row["clip"]] == side]
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


def test_mistakes_are_the_surest_wrong_and_the_least_sure_right(page: Path, finished: Path) -> None:
    """Wrong predictions are in falling order of confidence, right ones in rising order; all have players."""
    predictions = read_csv(finished / "results/predictions.csv")
    wrong, right = _text(page).partition("Most surely wrong")[2].partition("Right by a hair")[::2]
    for text, expected in (
        (wrong, sorted((p for p in predictions if p["truth"] != p["prediction"]), key=_confidence)[::-1]),
        (right, sorted((p for p in predictions if p["truth"] == p["prediction"]), key=_confidence)),
    ):
        shown = re.findall(r"\w+ , predicted \w+ at [\d.]+ % (\S+)", text)
        assert shown == [each["clip"] for each in expected[:8]]
    for each in predictions:
        assert f'aria-label="{each["clip"]}"' in page.read_text(encoding="utf-8")


def _confidence(row: dict[str, str]) -> float:
    return float(row["probability"])


def test_rejected_clips_are_listed_with_their_reasons(project: Project) -> None:
    """Names and reasons of rejects.csv are on the page as they are, also where they look like HTML."""
    rejects = project.path / "data" / "rejects.csv"
    rejects.write_text('clip,reason\ngo/<b>1.wav,"Format, not recognised"\n', encoding="utf-8")
    project.run(sys.executable, "-m", "pipeline.stages.report")
    text = _text(project.path / "results" / "report.html")
    assert "Rejected clips: 1 clip reason go/<b>1.wav Format, not recognised" in text


def test_no_mistake_is_shown_where_none_is_asked_for(project: Project) -> None:
    """With report.mistakes 0 no clip is shown, and the number of mistakes is told all the same."""
    project.set_params({"report.mistakes": 0})
    project.run(sys.executable, "-m", "pipeline.stages.report")
    text = _text(project.path / "results" / "report.html")
    predictions = read_csv(project.path / "results/predictions.csv")
    wrong = sum(row["truth"] != row["prediction"] for row in predictions)
    assert f"{wrong} of {len(predictions)} test clips are predicted wrong." in text
    assert "Most surely wrong" not in text


def test_origin_tells_parameters_checksum_and_the_commit(page: Path, project: Project) -> None:
    """The page has every parameter that the run used, and the command on it finds the run's commit."""
    text = _text(page)
    for line in ("audio.sample_rate 22050", "features.mfcc.n_mfcc 39", "train.epochs 1", 'dataset "demo"'):
        assert line in text
    command = re.search(r"git log -S .*? -- dvc\.lock", text)
    assert command
    found = project.run("bash", "-c", command[0].replace("git log", "git log --format=%H"))
    assert found.split() == project.run("git", "rev-parse", "HEAD").split()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_and_plays_it(page: Path, finished: Path, width: int, dark: bool) -> None:
    """Without a network, on a phone and on a desk, light and dark: no error, no overflow, all there.

    Every player has the duration of a clip, every picture a size, and every word contrast.
    """
    with browser.opened(page, width=width, dark=dark) as driver:
        clips = json.loads((finished / "results/examples/index.json").read_text())["clips"]
        shown = len(read_csv(finished / "results/predictions.csv"))
        players = browser.durations(driver)
        assert len(players) == sum(1 + len(each["heard"]) for each in clips) + shown
        assert players == pytest.approx([0.8] * len(players), abs=1e-4)
        sizes = [picture.size for picture in driver.find_elements(By.CSS_SELECTOR, "figure > svg")]
        assert len(sizes) >= sum(1 + len(each["features"]) for each in clips) + 6 + shown
        assert all(size["width"] > 200 and size["height"] > 100 for size in sizes)
        decoded = driver.execute_async_script(
            """
            const done = arguments[0];
            Promise.all([...document.querySelectorAll("svg image")].map(async each => {
                const image = new Image();
                image.src = each.getAttribute("xlink:href");
                await image.decode();
                return image.naturalWidth;
            })).then(done);
            """
        )
        assert len(decoded) >= sum(len(each["features"]) for each in clips)
        assert min(decoded) > 0
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", background))) < 60) == dark
        assert browser.unreadable(driver) == []
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]

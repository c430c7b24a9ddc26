"""`python -m pipeline compare`."""

import html
import re
import sys
from pathlib import Path

import pytest

from tests import browser
from tests.project import Project, read_csv

COMPARE = (sys.executable, "-m", "pipeline", "compare")


def _rows(page: Path) -> dict[tuple[str, str], list[str]]:
    """Return the first table's cells by feature and model."""
    return _table(page, 1)


def _table(page: Path, number: int) -> dict[tuple[str, str], list[str]]:
    """Return the cells of a table by the first two, feature and model."""
    body = page.read_text(encoding="utf-8").split("<tbody>")[number].partition("</tbody>")[0]
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
        cells = [
            html.unescape(re.sub(r"<[^>]+>", "", cell))
            for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)
        ]
        found[cells[0], cells[1]] = cells[2:]
    return found


@pytest.mark.tensorflow
def test_pairs_run_once_and_are_compared(finished: Path, tmp_path: Path) -> None:
    """Two pairs run, and a third does not fit. The second time nothing runs."""
    project = Project(tmp_path / "home" / "project", copied=finished)
    project.set_params({"export.formats": ["litert"]})
    project.commit()
    args = ("--features", "stft", "--models", "cnn,rnn,bcresnet")
    stored = (finished / "data/features/stft.h5").stat().st_size / 1e6
    output = project.run(*COMPARE, *args)
    assert "3 pairs: 0 ran before, 1 do not fit, 2 will run" in output
    assert "stft → bcresnet: 129 bins cannot be cut into 5 equal parts (models.bcresnet.subbands)" in output
    page = project.path / "results" / "compare.html"
    rows = _rows(page)
    assert rows.keys() == {("stft", "cnn"), ("stft", "rnn")}
    recorded = {round(float(row["seconds"])) for row in read_csv(project.path / "logs/trainings.csv")}
    assert min(recorded) > 0
    accuracies = []
    for accuracy, interval, f1, loss, parameters, seconds, epochs, speed, megabytes, name in rows.values():
        accuracies.append(float(accuracy.removesuffix(" %")))
        assert re.fullmatch(r"[\d.]+ to [\d.]+ %", interval)
        assert 0 <= float(f1.removesuffix(" %")) <= 100
        assert float(loss) > 0
        assert int(parameters.replace(",", "")) > 40
        assert int(seconds) in recorded
        assert epochs == "1"
        assert int(speed.replace(",", "")) > 0
        assert float(megabytes) == pytest.approx(stored, abs=0.1)
        assert name in project.run("dvc", "exp", "list", "--name-only")
    assert accuracies == sorted(accuracies, reverse=True)
    exported = _table(page, 2)
    assert exported.keys() == rows.keys()
    for pair, (name, accuracy, apart, size, median, p95, speed) in exported.items():
        assert (name, accuracy) == ("litert", rows[pair][0])
        assert float(apart) <= 1e-4
        assert int(size.replace(",", "")) > 1000
        assert 0 < float(median) <= float(p95)
        assert int(speed.replace(",", "")) > 0
    assert project.run("git", "rev-parse", "HEAD").strip() in page.read_text(encoding="utf-8")
    for width in (400, 1400):
        with browser.opened(page, width=width, dark=width == 400) as driver:
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert browser.unreadable(driver) == []
            assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]

    output = project.run(*COMPARE, *args)
    assert "3 pairs: 2 ran before, 1 do not fit, 0 will run" in output
    assert "Running stage" not in output
    assert {pair: cells[:7] for pair, cells in _rows(page).items()} == {p: c[:7] for p, c in rows.items()}

    assert "--models has 'lstm': choose from rnn, cnn" in project.fails(*COMPARE, "--models", "lstm")
    project.set_params({"train.learning_rate": -1})
    assert "params.yaml: train.learning_rate must be at least 1e-12, is -1" in project.fails(*COMPARE)

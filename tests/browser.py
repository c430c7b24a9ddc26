"""A headless Chromium that opens pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver


@contextmanager
def opened(page: Path, *, width: int, dark: bool) -> Iterator[webdriver.Chrome]:
    """Open `page` from disk, without a network, `width` pixels wide. Skip the test without Chromium."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("there are no chromium and chromedriver: run make servers as root")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
        )
        driver.set_script_timeout(60)
        driver.get(page.absolute().as_uri())
        yield driver
    finally:
        driver.quit()


def durations(driver: webdriver.Chrome) -> list[float]:
    """Return the duration of each player on the page, in seconds, after all have loaded their sounds."""
    found: list[float] = driver.execute_async_script(
        """
        const done = arguments[0];
        Promise.all([...document.querySelectorAll("audio")].map(player => new Promise((found, failed) => {
            const told = () => found(player.duration);
            if (player.readyState > 0) { told(); return; }
            player.addEventListener("loadedmetadata", told);
            player.addEventListener("error", () => found(-1));
            player.load();
        }))).then(done);
        """
    )
    return found


def unreadable(driver: webdriver.Chrome) -> list[str]:
    """Return the words whose contrast with their background is below 4.5 to 1 (WCAG 2.1, 1.4.3)."""
    found: list[str] = driver.execute_script(
        """
        const channels = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
        const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = element => {
            let colour = [0, 0, 0], left = 1;
            for (let each = element; each && left > 0; each = each.parentElement) {
                const [r, g, b, a = 1] = channels(getComputedStyle(each).backgroundColor);
                colour = colour.map((v, i) => v + left * a * [r, g, b][i]);
                left *= 1 - a;
            }
            return colour;
        };
        const words = [...document.querySelectorAll("body *")].filter(element =>
            element.checkVisibility() && [...element.childNodes].some(
                node => node.nodeType === Node.TEXT_NODE && node.data.trim()));
        return words.filter(element => {
            const style = getComputedStyle(element);
            const colour = element instanceof SVGElement ? style.fill : style.color;
            const [one, two] = [luminance(channels(colour)), luminance(behind(element))];
            return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05) < 4.5;
        }).map(element => element.textContent.trim());
        """
    )
    return found

"""Draw the README's picture: `python docs/picture.py` writes docs/report.png from results/report.html.

The picture has three parts of the report: its headline figures, the features of a word, and how well the
model does. Draw it again after a change of the report's look or of the demo's scores. You need a finished
run, and Chromium with chromedriver, which `make servers` installs.
"""

import base64
import io
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "results" / "report.html"
PICTURE = ROOT / "docs" / "report.png"
WIDTH = 1000  # CSS pixels
SCALE = 1.6  # pixels of the picture per CSS pixel: text stays sharp when GitHub shrinks the picture
COLORS = 256
MAX_BYTES = 300_000
# Keep the parts, and put the clip to the left of the model. Return the names of parts that are missing.
ARRANGE = """
const words = [...document.querySelectorAll("#examples h3")].filter(h3 => !h3.textContent.startsWith("_"));
let features = words[0];
while (features && !features.matches(".grid")) features = features.nextElementSibling;
const parts = {
    "header": document.querySelector("header"),
    "#examples": document.querySelector("#examples h2"),
    "#examples p": document.querySelector("#examples p"),
    "an h3 with a word": words[0],
    "the word's .grid": features,
    "#model": document.querySelector("#model h2"),
    "the curve of accuracy": document.querySelectorAll("#model .grid figure")[1],
    "the confusion matrix": document.querySelector("table.confusion")?.closest(".scroll"),
    "the accuracy in noise": document.querySelectorAll("#model .grid figure")[2],
};
const missing = Object.keys(parts).filter(name => !parts[name]);
if (missing.length) return missing;
const [header, ...rest] = Object.values(parts);
header.querySelector("nav")?.remove();
const column = elements => {
    const div = document.createElement("div");
    div.append(...elements);
    return div;
};
const columns = column([column(rest.slice(0, 4)), column(rest.slice(4))]);
columns.className = "columns";
document.body.replaceChildren(header, columns);
const style = document.createElement("style");
style.textContent = `
body { max-width: none; padding: 1rem 1.5rem 1.5rem; border: 1px solid var(--line); }
.figures li:first-child { flex-grow: 3; }
.columns { display: grid; grid-template-columns: 545px 1fr; gap: 1.5rem; margin-top: 1.5rem; }
.columns h2 { margin-top: 0; }
.columns .grid { grid-template-columns: 1fr 1fr; }
p { font-size: .85rem; }
.columns .confusion { width: 100%; margin: 0 0 1.5rem; }
.columns .confusion th { white-space: nowrap; }
`;
document.head.append(style);
return [];
"""


def main() -> None:
    """Write the picture, or exit with a message that says what is missing."""
    if not REPORT.exists():
        sys.exit(f"{REPORT.relative_to(ROOT)} is missing: run dvc repro")
    content = _quantised(_screenshot())
    if len(content) > MAX_BYTES:
        sys.exit(f"the picture has {len(content):,} bytes, more than {MAX_BYTES:,}: lower SCALE or COLORS")
    PICTURE.write_bytes(content)
    print(f"{PICTURE.relative_to(ROOT)}: {len(content):,} bytes")


def _screenshot() -> bytes:
    """Return the arranged parts of the report as a PNG."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        sys.exit("chromium and chromedriver are missing: run make servers")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    try:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    except WebDriverException as error:
        sys.exit(f"chromium does not start: {error.msg}")
    try:
        scheme = {"name": "prefers-color-scheme", "value": "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": WIDTH, "height": 1000, "deviceScaleFactor": SCALE, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(REPORT.as_uri())
        missing = driver.execute_script(ARRANGE)
        if missing:
            sys.exit(f"{REPORT.relative_to(ROOT)} has no {', '.join(missing)}: adapt ARRANGE to the report")
        height = driver.execute_script("return Math.ceil(document.body.getBoundingClientRect().height)")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        shot: dict[str, Any] = driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
        )
    finally:
        driver.quit()
    return base64.b64decode(shot["data"])


def _quantised(png: bytes) -> bytes:
    """Return `png` with at most `COLORS` colours, which takes less than half the space."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    file = io.BytesIO()
    picture.quantize(COLORS, kmeans=3, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main()

"""Render HTML pages that are one file, with figures and sounds inside, from Jinja2 templates."""

import base64
import re
from pathlib import Path
from typing import Any
from xml.parsers import expat

import jinja2
from markupsafe import Markup

# The colour of text on a page, as in templates/base.html.
INK = "<style>svg { color: #1c1e21; } @media (prefers-color-scheme: dark) { svg { color: #e6e8eb; } }</style>"
# In the tag that matplotlib writes.
SIZE = re.compile(r'width="(\d+\.?\d*)pt" height="(\d+\.?\d*)pt"')
# Characters that no XML file may have. A clip's name may.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def render(template: str, **values: Any) -> str:
    """Return the page that `template`, a file in templates/, gives for `values`. Their text is escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(values)


def embedded(content: bytes, kind: str) -> str:
    """Return a data URL, with which a page contains a file. `kind` is its MIME type, such as `audio/flac`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture(svg: str, name: str) -> Markup:
    """Return an `<img>` of `svg`, which `pipeline.report.figures` wrote; `name` describes it.

    The picture may come from a file of somebody else. In an `<img>`, no script in it runs, and it loads
    nothing. There it does not inherit the page's colour, so it gets it here, for a light and a dark page.

    Raises `xml.parsers.expat.ExpatError` if it is not XML, because a browser would then show nothing.
    """
    svg = NOT_XML.sub("", svg)
    expat.ParserCreate("utf-8").Parse(svg.encode("utf-8"), True)
    start = svg.find(">") + 1
    # With its size known, the page does not move while pictures are decoded.
    size = SIZE.search(svg[:start])
    width, height = (round(float(points) * 96 / 72) for points in size.groups()) if size else ("", "")
    drawn = f"{svg[:start]}{INK}{svg[start:]}".encode()
    expat.ParserCreate("utf-8").Parse(drawn, True)
    return Markup('<img alt="{}" width="{}" height="{}" src="{}">').format(
        name, width, height, embedded(drawn, "image/svg+xml")
    )

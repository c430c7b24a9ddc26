"""Render HTML pages that are one file, with figures and sounds inside, from Jinja2 templates."""

import base64
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


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


def markup(svg: str) -> Markup:
    """Return `svg`, from `pipeline.report.figures`, marked so that a template does not escape it."""
    return Markup(svg)  # noqa: S704 - `figures` has escaped its text

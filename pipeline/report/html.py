"""Pages that open from disk, in one file: Jinja2's templates, pictures and sounds inside."""

import base64
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """Return the page that `template`, a file in templates/, makes of `values`; text in them is escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(values)


def embedded(content: bytes, kind: str) -> str:
    """Return the address under which a page holds a file within itself; `kind` is its type, `audio/flac`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def markup(svg: str) -> Markup:
    """Return a picture that `pipeline.report.figures` made as what a template need not escape."""
    return Markup(svg)  # noqa: S704 - made here, its words escaped there

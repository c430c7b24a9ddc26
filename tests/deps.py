"""Write the code that each stage depends on into dvc.yaml: `make deps`.

DVC does not track what Python imports. So each stage in dvc.yaml lists, under the comment `# code`, the
modules that it imports, directly or not, and the page templates that these name. You write two kinds of line
yourself: a path such as `pipeline/models/${model}.py`, and a folder. This script keeps them, and adds the
imports of all files that they can mean.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = ROOT / "pipeline"
# No byte of an output can depend on these: an error ends the stage, as does a disk or a memory that is too
# small, progress goes to the terminal, and the others only have a docstring and say when Ctrl-C takes effect.
LEFT_OUT = (
    "pipeline/__init__.py",
    "pipeline/errors.py",
    "pipeline/needs.py",
    "pipeline/progress.py",
    "pipeline/stages/__init__.py",
    "pipeline/store/capacity.py",
)
HEADING = "# code"
STAGE = re.compile(r"^  (?P<name>\w+):\n(?P<body>(?:(?: {4}.*| *)\n)*)", re.MULTILINE)
BLOCK = re.compile(rf"^(?P<indent> +){HEADING}\n(?P<lines>(?:(?P=indent)- .*\n)*)", re.MULTILINE)


def imports(path: Path) -> Iterator[Path]:
    """Yield the project's files that the Python file at `path` imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                base = ROOT.joinpath(*parts[:length])
                yield from (file for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists())


def _templates(path: Path) -> Iterator[Path]:
    """Yield the page templates that the file at `path`, Python or template, names."""
    for name in re.findall(r'"(\w+\.html)"', path.read_text(encoding="utf-8")):
        template = PIPELINE / "report/templates" / name
        yield from [template] if template.exists() else []


def closure(starts: Iterable[Path]) -> set[str]:
    """Return `starts` and all files that they need, directly or not, relative to the project's folder."""
    found: set[Path] = set()
    new = {path for start in starts for path in (start, start.parent / "__init__.py")}
    while new:
        found |= new
        needed = {file for path in new for file in _templates(path)}
        needed |= {module for path in new if path.suffix == ".py" for module in imports(path)}
        new = needed - found
    names = {path.relative_to(ROOT).as_posix() for path in found if path.stat().st_size}
    return names - set(LEFT_OUT)


def choices(line: str) -> set[str]:
    """Return the files that a line of dvc.yaml, with ${} in it or a folder, can mean."""
    folder = ROOT / (line if "$" not in line else Path(line).parent)
    return {path.relative_to(ROOT).as_posix() for path in folder.glob("[a-z]*.py")}


def code(stage: str, kept: list[str]) -> list[str]:
    """Return the code that `stage` depends on, sorted; `kept` are the lines that a person wrote."""
    chosen = {name for line in kept for name in choices(line)}
    starts = [PIPELINE / "stages" / f"{stage}.py", *(ROOT / name for name in sorted(chosen))]
    folders = tuple(f"{line}/" for line in kept if "$" not in line)
    names = {name for name in closure(starts) - chosen if not name.startswith(folders)}
    return sorted([*names, *kept])


def written(text: str) -> str:
    """Return dvc.yaml's `text` with the code of each stage as it is now."""

    def stage(found: re.Match[str]) -> str:
        def block(lines: re.Match[str]) -> str:
            old = [line.strip().removeprefix("- ") for line in lines["lines"].splitlines()]
            kept = [line for line in old if "$" in line or (ROOT / line).is_dir()]
            new = "".join(f"{lines['indent']}- {name}\n" for name in code(found["name"], kept))
            return f"{lines['indent']}{HEADING}\n{new}"

        return BLOCK.sub(block, found[0])

    return STAGE.sub(stage, text)


if __name__ == "__main__":
    file = ROOT / "dvc.yaml"
    file.write_text(written(file.read_text(encoding="utf-8")), encoding="utf-8")

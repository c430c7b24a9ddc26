"""Tests of requirements.lock."""

import re
from importlib.metadata import distributions

import pytest
from packaging.specifiers import SpecifierSet

from tests.project import ROOT


@pytest.mark.parametrize("python", ["3.11.9", "3.12.9", "3.13.9"])
def test_what_is_installed_allows_each_python_that_the_readme_names(python: str) -> None:
    """Every locked package allows Python 3.11 to 3.13, upper bounds included.

    uv ignores upper bounds when it locks and installs; pip refuses such a package.
    """
    # Packages that declare no bound lack the key.
    bounds = {
        package.name: str(package.metadata["Requires-Python"])
        for package in distributions()
        if "Requires-Python" in package.metadata
    }
    refused = {name: bound for name, bound in bounds.items() if python not in SpecifierSet(bound)}
    assert refused == {}


def test_only_wheels_with_known_hashes_are_installed() -> None:
    """Each locked package has hashes, and `make venv` checks them and builds at most one package."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    packages = re.findall(r"^[\w.-]+==.*(?:\n .*)*", lock, re.MULTILINE)
    assert len(packages) > 100
    assert all("--hash=sha256:" in package for package in packages)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = re.findall(r"pip install .* -r requirements\.lock", makefile)
    assert len(installs) == 2
    assert all("$(WHEELS)" in install and "--require-hashes" in install for install in installs)
    assert makefile.count("--no-binary") == 1

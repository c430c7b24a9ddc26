"""Tests of requirements.lock."""

from importlib.metadata import distributions

import pytest
from packaging.specifiers import SpecifierSet


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

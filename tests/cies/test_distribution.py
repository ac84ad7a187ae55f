"""The package as others install it: no name of another distribution, the version, the types."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import cies

ROOT = Path(cies.__file__).parent.parent


def test_a_package_that_another_distribution_replaced_is_named(tmp_path: Path) -> None:
    for name in ("cies", "configs", "eval", "indexes", "ingest", "query"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", tmp_path / name)
    done = _import(tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "eval" / "__init__.py").write_text('"""Evaluate expressions."""\n')
    done = _import(tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: Another distribution has put its package 'eval' over")


def _import(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-c", "import cies; print(cies.__version__)"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
    )


def test_the_version_is_that_of_the_distribution() -> None:
    assert cies.__version__ == version("cies")
    assert re.match(r"\d+\.\d+", cies.__version__)


@pytest.mark.soak
def test_a_program_of_a_user_has_the_types_that_it_states() -> None:
    from support.consumer import check

    for tool in ("mypy", "pyright"):
        pytest.importorskip(tool)
    assert check(Path(sys.prefix)) == 0

"""What commands import of our own modules: no more than they need, and no circle around the app."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cies
from ingest.encoders.methods.dior import DiorEncoder

ROOT = Path(cies.__file__).parent.parent
PACKAGES = ("cies", "configs", "eval", "indexes", "ingest", "query")

#: Modules of ours that a search for a stored picture may import; it imports 103.
MOST = 103

SEARCH = """
import sys
sys.argv = ["cies", "search", {picture!r}, "-g", {gallery!r}, "-c", "color", "-q"]
from cies.cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def gallery(world: Path, tmp_path_factory: pytest.TempPathFactory, builtin: DiorEncoder) -> Path:
    place = tmp_path_factory.mktemp("imports") / "gallery"
    sources = [world / "images" / f"0000{number}.jpg" for number in (1, 2, 3)]
    cies.ingest(cies.create(place), sources, ["color"])
    return place


def test_a_search_for_a_stored_picture_imports_what_it_needs(gallery: Path, world: Path) -> None:
    code = SEARCH.format(picture=str(world / "images" / "00001.jpg"), gallery=str(gallery))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *paths, loaded = done.stdout.splitlines()
    assert len(paths) == 2
    own = {name for name in loaded.split() if name.split(".")[0] in PACKAGES}
    assert "query.engine" in own and len(own) <= MOST, sorted(own)
    unneeded = (
        "cies.bench",
        "cies.html",
        "cies.measured",
        "eval",
        "ingest.scan.scan",
        "ingest.sources",
    )
    unneeded += ("ingest.encoders.methods", "ingest.fill.pipeline", "query.composers.search")
    unneeded += ("query.explore", "query.ranking.reranker")
    assert not [name for name in own if name.startswith(unneeded)]


def test_no_command_imports_the_app() -> None:
    """The app imports the commands; they find it in their context."""
    for path in sorted((ROOT / "cies").rglob("*.py")):
        if path.name not in ("__main__.py", "reference.py"):
            imports = [
                n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)
            ]
            assert "cies.cli.app" not in {node.module for node in imports}, path

"""A program of a user: it states the types that the public interface has.

``python consumer.py --check ENVIRONMENT`` checks it with mypy and pyright against the package that
is installed there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

if TYPE_CHECKING:  # the environment that checks need not have it
    import cies


def use(gallery: Path, picture: Path) -> None:
    """What a program would do; never run."""
    assert_type(cies.__version__, str)
    report = cies.ingest(gallery, [picture], ["color"], model="tiny-lvlm")
    assert_type(report.embedded, int)
    g = cies.open(gallery)
    assert_type(g, cies.SearchableGallery)
    assert_type(g.conditions, list[str])
    hits = g.search(picture, "color", k=3)
    assert_type(hits, cies.Hits)
    assert_type(hits[0].score, float)
    assert_type([hit.path for hit in hits], list[str])
    assert_type(hits.to_json(), dict[str, Any])
    imported = cies.import_vectors(gallery, "v.npy", paths="v.txt")
    assert_type(imported.stored, int)
    encoder = cies.Encoder.load("tiny-lvlm")
    assert_type(encoder.dimension, int)
    try:
        g.export("color", "color.parquet")
    except cies.UnknownCondition as error:
        assert_type(error, cies.UnknownCondition)


def check(environment: Path) -> int:
    """Check this file; returns 0 if neither mypy nor pyright finds an error."""
    python = str(environment / "bin" / "python")
    commands = [
        ["mypy", "--strict", "--follow-imports=silent", "--python-executable", python],
        ["pyright", "--pythonpath", python],
    ]
    failed = [
        command[0]
        for command in commands
        if subprocess.run([sys.executable, "-m", *command, __file__], cwd=environment).returncode
    ]
    print(f"Types: {'wrong by ' + ' and '.join(failed) if failed else 'right'}.")
    return len(failed)


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[2]).absolute()))

"""A hundred thousand pictures: memory, commits, disk space, and a repeated scan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def test_a_hundred_thousand_pictures(tmp_path: Path, soak: bool) -> None:
    if not soak:
        pytest.skip("minutes long; `make soak` runs it")
    count = 100_000
    done = subprocess.run(
        [sys.executable, str(TESTS / "support" / "scale.py"), str(tmp_path), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1))
    assert found["embedded"] == count
    assert found["peak_bytes"] < 2e9
    assert found["slowest_commit"] < 10 * found["first_commits"]
    assert found["disk_of_raw_vectors"] < 1.5
    assert found["rescan_seconds"] < 30
    assert (found["rescan_embedded"], found["rescan_calls"]) == (0, 0)
    assert not found["new_versions"]
    assert found["open_seconds"] < 1

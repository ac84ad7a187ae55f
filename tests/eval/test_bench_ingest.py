"""The pipeline's benchmark: figures that agree with one another, and a device kept busy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_bench_ingest_counts_what_it_did(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cies", "bench", "ingest", "--pictures", "40", "--megapixels", "0.3",
         "--cost-ms", "10", "--folder", str(tmp_path), "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    figures = document["figures"]
    assert document["schema_version"] == 1 and figures["pictures"] == 40
    assert 0 < figures["busy"] <= 1 and 0 < figures["pictures_per_second"] <= 100
    assert figures["peak_bytes"] < 10**9 and 10**4 < figures["file_bytes"] < 10**6
    assert {"python", "lancedb", "pillow"} <= set(document["environment"])
    assert list(tmp_path.iterdir()) == []


def test_the_device_is_kept_busy(soak: bool) -> None:
    if not soak:
        pytest.skip("needs a machine to itself; `make soak` runs it")
    done = subprocess.run(
        [sys.executable, "-m", "cies", "bench", "ingest", "--pictures", "1000", "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    print(done.stdout)
    assert json.loads(done.stdout)["figures"]["busy"] >= 0.95

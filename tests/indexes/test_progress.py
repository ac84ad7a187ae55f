"""The progress of an ingest as other processes see it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from indexes.progress import published_progress, running_ingest


def test_it_is_there_while_the_ingest_runs(tmp_path: Path) -> None:
    assert running_ingest(tmp_path) is None
    with pytest.raises(KeyError), published_progress(tmp_path) as publish:
        assert running_ingest(tmp_path) is not None
        publish(10, 10, 2)
        found = running_ingest(tmp_path)
        assert found is not None and (found.done, found.total, found.failed) == (10, 10, 2)
        raise KeyError
    assert running_ingest(tmp_path) is None and not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_not_believed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from indexes.progress import published_progress\n"
        "with published_progress(Path(sys.argv[1])) as publish: publish(1, 9, 0); os._exit(9)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=root, check=False)
    (left,) = tmp_path.iterdir()
    assert json.loads(left.read_text(encoding="utf-8"))["total"] == 9
    assert running_ingest(tmp_path) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"process": "x"}', '{"process": -1, "machine": 3}', "\0" * 9999]
)
def test_any_other_content_is_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "ingest.json").write_text(content, encoding="utf-8")
    assert running_ingest(tmp_path) is None


def test_a_folder_that_cannot_be_written_publishes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with published_progress(tmp_path / "file") as publish:
        publish(1, 2, 0)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]

"""The comparisons with peers, on few vectors: figures of both sides over the same input."""

from __future__ import annotations

import json
import sys

import pytest

from eval.peers.__main__ import main


def test_an_index_is_compared_on_the_same_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("usearch")
    main(["usearch", "--vectors", "1000", "--json"])
    document = json.loads(capsys.readouterr().out)
    rows = {row["what"]: row for row in document["rows"]}
    assert document["peer"].startswith("usearch 2") and document["cies"]
    assert rows["recall@10 against exact"]["cies"] == 1.0
    assert rows["recall@10 against exact"]["peer"] > 0.9
    for row in rows.values():
        assert row["ratio"] == pytest.approx(row["cies"] / row["peer"])


def test_what_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(SystemExit, match=r"is not installed .*pip install 'cies\[peers\]'"):
        main(["hnswlib", "--vectors", "100"])
    with pytest.raises(SystemExit, match="no-such-program cannot be run"):
        main(["rclip", "--pictures", "2", "--program", "no-such-program"])


def test_thirty_lines_of_transformers_find_the_same_pictures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["transformers-faiss", "--pictures", "24"])
    out = capsys.readouterr().out
    assert "| search by a stored picture, ms |" in out
    assert float(out.rsplit(": ", 1)[1]) > 0.97

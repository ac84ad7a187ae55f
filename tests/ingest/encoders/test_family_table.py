"""The table of all model types: complete, and as the page shows it; ``make families`` writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support.family_table import BEGIN, END, PAGE, TABLE, markdown, measure, registered, write
from support.tiny_families import BUILDERS, MORE
from support.tiny_reference import CONDITIONS

from ingest.encoders.vlm.families import FAMILIES


def test_write_the_table(
    request: pytest.FixtureRequest, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    if not request.config.getoption("--families"):
        pytest.skip("make families measures all tiny models, in about five minutes")
    write(
        [
            measure(name, tmp_path / name, [*pictures[:2], pictures[5]], CONDITIONS[:4], True)
            for name in [*BUILDERS, *MORE]
        ]
    )


def test_the_table_has_every_type_and_is_on_the_page() -> None:
    entries = json.loads(TABLE.read_text(encoding="utf-8"))["families"]
    assert {entry["type"] for entry in entries} == set(registered()) | set(FAMILIES)
    measured = [entry for entry in entries if "fp32" in entry]
    assert {entry["type"] for entry in measured} == set(FAMILIES)
    for entry in entries:
        assert entry["state"] in ("packed", "plain", "refused") or entry["state"].startswith(
            "needs"
        )
        assert entry["reason"].endswith(".")
    for entry in measured:
        assert entry["fp32"] < 2e-5 and entry["words_equal"] == entry["words"] > 0
        ours, theirs = entry["bf16"]
        assert ours < 1.5 * theirs
    page = PAGE.read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0].strip() == markdown(entries)

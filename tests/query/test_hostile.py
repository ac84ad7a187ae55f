"""A thousand questions that nobody should ask change nothing and get a clear answer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import run
from support.kinds import fill, png, put
from support.stand_in import StandIn

from indexes.errors import CiesError
from indexes.store.gallery import Gallery
from ingest.encoders.base import check_text
from query.engine import Engine
from query.question import Question

STRANGE = [
    "",
    " ",
    "'",
    '"',
    "'; DROP TABLE files; --",
    "1=1) OR (1=1",
    "color' OR '1'='1",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "c_" + "0" * 26,
    "manifest.lance",
    "gallery/manifest.lance",
    "a\0b",
    "\0",
    "\x1b[2J\x1b]0;title\x07",
    "\u202etxet desrever\u202c",
    "שלום \u200f\u200e",
    "cafe\u0301",
    "caf\u00e9",
    "\ufeffcolor",
    "col\u200bor",
    "ｃｏｌｏｒ",
    "\udcff\udc80",
    "\U0001f600" * 50,
    "x" * 2**20,
    "(" * 5000,
    "NOT " * 5000,
    "' OR " * 3000,
    "%s%n%x {0} {color} ${HOME} $(touch pwned) `touch pwned`",
    "| touch pwned",
    "file:///etc/passwd",
    "http://localhost/x.png",
    "s3://bucket/x.png",
    "-",
    "--help",
    "*",
    "color=1e400",
    "color=-0",
    "color=nan",
    "color==2",
    "=2",
    "NaN,0,1,1",
    "0,0,1e308,1e308",
    "-1,-1,1,1",
    "0,0,1,1",
    "path; DELETE FROM images",
    "path LIKE '%' UNION SELECT * FROM files",
    "path IN (SELECT path FROM files)",
    "pg_sleep(100) = 1",
    "repeat('a', 1000000000) = 'b'",
    "load_extension('x')",
    "path ~ '(a+)+$'",
    "path LIKE '" + "%a" * 3000 + "'",
    "price = 1" + " OR price = 1" * 2000,
    "9" * 4000 + " = price",
    "price = 1e999999",
    "taken_at > '99999-99-99'",
    "word = 'red' -- \n",
    "word = 'red' /* */",
]


def tree(folder: Path, but: str) -> str:
    """A digest of every file below a folder, with names and times, but those of one folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] != but and path.is_file():
            about = path.stat()
            digest.update(f"{path} {about.st_size} {about.st_mtime_ns}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    for number in range(12):
        put(tmp_path / "p" / f"{number:02}.png", png(number))
    lines = [f"p/{number:02}.png,{number / 4},maker-{number // 2}" for number in range(12)]
    table = put(tmp_path / "shop.csv", "\n".join(["file,price,maker", *lines]))
    made = Gallery.create(tmp_path / "gallery")
    fill(made, table, names="color shape caf\u00e9")
    return made


def question(draw: np.random.Generator) -> dict[str, Any]:
    """One hostile value or several among harmless ones."""

    def strange() -> str:
        text = str(draw.choice(np.array(STRANGE, dtype=object)))
        how = draw.integers(0, 6)
        if how == 0 and len(text) < 10_000:
            place = int(draw.integers(0, len(text) + 1))
            return text[:place] + chr(int(draw.integers(0, 0x3000))) + text[place:]
        if how == 1:
            return text + str(draw.choice(np.array(STRANGE[:30], dtype=object)))
        return text

    asked: dict[str, Any] = {"image": "p/03.png", "condition": "color", "k": 3}
    for field in draw.choice(
        [
            "image",
            "condition",
            "unlike",
            "where",
            "exclude_same",
            "crop",
            "sort",
            "combine",
            "text",
        ],
        size=int(draw.integers(1, 3)),
        replace=False,
    ):
        if field in ("condition", "unlike") and draw.random() < 0.3:
            asked[str(field)] = ["shape", strange()]
        elif field == "image" and draw.random() < 0.2:
            asked["image"] = strange().encode("utf-8", "surrogateescape")
        else:
            asked[str(field)] = strange()
    return asked


def test_a_thousand_hostile_questions(gallery: Gallery, tmp_path: Path) -> None:
    before = tree(tmp_path, "gallery")
    held = [table.table for table in gallery.conditions()]
    engine = Engine(gallery, lambda spec: StandIn())
    draw = np.random.default_rng(6)
    outcomes: Counter[str] = Counter()
    for _ in range(1000):
        asked = question(draw)
        try:
            if "text" in asked:
                asked.pop("image")
                check_text(text := asked.pop("text"))
                condition, k = asked.pop("condition"), asked.pop("k")
                hits = engine.ask(Question.of((), condition, k, text, **asked))
            else:
                hits = engine.search(asked.pop("image"), **asked)
        except CiesError as error:
            told = str(error)
            assert 20 < len(told) < 1500 and told.endswith((".", '"', "'")), told
            assert "\0" not in told and "\n" not in told and "\x1b" not in told, repr(told)
            outcomes[type(error).__name__] += 1
        else:
            assert len(hits) <= 3
            json.dumps(hits.to_json())
            outcomes["answered"] += 1
    assert outcomes["UsageError"] > 300 and outcomes["UnknownCondition"] > 100
    assert outcomes.total() == 1000 and outcomes["answered"] > 0
    assert tree(tmp_path, "gallery") == before
    assert [table.table for table in gallery.conditions()] == held
    assert len(engine.search("p/03.png", "color", 20)) == 11


def test_twins_in_unicode_are_one_condition(gallery: Gallery) -> None:
    engine = Engine(gallery, lambda spec: StandIn())
    hits = [engine.search("p/03.png", name).hits for name in ("caf\u00e9", "cafe\u0301", "CAFÉ")]
    assert hits[0] == hits[1] == hits[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("p/03.png", "-c", "color", "--where", "1=1; DROP TABLE files"),
        ("p/03.png", "-c", "\u202eroloc"),
        ("../../../etc/passwd", "-c", "color"),
    ],
)
def test_on_the_command_line(
    arguments: tuple[str, ...],
    gallery: Gallery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = tree(tmp_path, "gallery")
    monkeypatch.chdir(tmp_path)
    done = run("search", *arguments, "-g", gallery.path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert tree(tmp_path, "gallery") == before

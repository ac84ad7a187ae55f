"""docs/python.md is code that runs, and everything that Python users get is named from cies."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.json_docs import printed

import cies
import indexes.errors
from eval.world.factors import sample_scenes
from eval.world.render import render

#: Values in comments that are compared with what the code gives.
_SAID = r"# (\(\d.*?\)|\['color', 'style'\]|\{'sku': .*?\}(?=, of))"
PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, scene in enumerate(sample_scenes(24, 5)):
        render(scene, 112).save(tmp_path / "photos" / f"{number:02d}.png")
    for number, name in enumerate(("photos/beach.jpg", "photos/old.jpg", "a.jpg", "b.jpg"), 30):
        render(sample_scenes(40, 5)[number], 112).save(tmp_path / name)
    rows = [f"photos/{n:02d}.png,{n:05d},{n / 2}" for n in range(24)]
    text = "\n".join(["file,sku,price", *rows, "photos/05.png,00100,2", ""])
    (tmp_path / "catalog.csv").write_text(text)
    return tmp_path


def test_the_page_runs(photos: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for block in blocks:
        for statement in _statements(block):
            exec(compile(statement, str(PAGE), "exec"), names)
            # What a comment says about a value is true.
            said = re.search(_SAID, statement)
            if said and "print" not in statement:
                value = eval(statement.split("  #")[0], names)
                assert value == eval(said[1]), statement
    assert cies.open("photos.cies").conditions == ["color"]


def _statements(block: str) -> list[str]:
    """The statements of a block, indented lines with the line before."""
    found: list[str] = []
    for line in block.splitlines():
        if line.startswith((" ", ")")) and found:
            found[-1] += "\n" + line
        elif line.strip():
            found.append(line)
    return found


def test_only_public_names_are_listed() -> None:
    assert set(dir(cies)) == {*cies.__all__, "__version__"}
    for name in dir(cies):
        assert getattr(cies, name) is not None
    errors = {
        name
        for name, one in vars(indexes.errors).items()
        if inspect.isclass(one) and issubclass(one, Exception)
    }
    assert errors <= set(dir(cies))


def test_an_editor_sees_every_argument() -> None:
    from query.question import Options

    for method in (cies.SearchableGallery.search, cies.SearchableGallery.search_text, cies.ingest):
        kinds = {p.kind for p in inspect.signature(method).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds
    arguments = set(inspect.signature(cies.SearchableGallery.search).parameters)
    assert arguments - {"self", "image", "condition", "k"} == set(Options.__annotations__)
    assert "progress" in inspect.signature(cies.train_composer).parameters


def test_everything_that_is_raised_is_a_cies_error(photos: Path) -> None:
    cies.ingest("photos.cies", ["photos"], ["color", "shape"])
    g = cies.open("photos.cies")
    wrong = [
        lambda: cies.open("nowhere"),
        lambda: cies.open("photos.cies", geometry="flat"),
        lambda: cies.open("photos.cies", index="tree").search("a.jpg", "color"),
        lambda: cies.ingest("photos.cies", ["nowhere"]),
        lambda: cies.ingest("photos.cies", [], method="magic"),
        lambda: cies.create("catalog.csv"),
        lambda: g.search("nowhere.jpg", "color"),
        lambda: g.search((), "color"),
        lambda: g.search("a.jpg", "colour of it"),
        lambda: g.search("a.jpg", "color", where="price <"),
        lambda: g.search("a.jpg", "color", k=0),
        lambda: g.search("a.jpg", "color", offset=-1),
        lambda: g.search("a.jpg", "color", crop="1,2"),
        lambda: g.search("a.jpg", "color", show="nothing"),
        lambda: g.search_text("", "color"),
        lambda: g.vectors("size"),
        lambda: g.facets("size"),
        lambda: g.groups("color", where="x = 1"),
        lambda: g.outliers("color", k=0),
        lambda: g.duplicates("size"),
        lambda: g.duplicates(threshold=2),
        lambda: g.export("color", "color.xls"),
        lambda: g.export("color", "nowhere/color.csv"),
        lambda: g.remove(),
        lambda: g.remove("nowhere.jpg"),
        lambda: g.rename_column("x", "y"),
        lambda: g.remove_condition("size"),
        lambda: g.merge("nowhere"),
        lambda: cies.Encoder.load("nowhere"),
    ]
    for number, call in enumerate(wrong):
        with pytest.raises(cies.CiesError) as told:
            call()
        assert len(str(told.value)) > 20, number


def test_the_object_says_what_the_commands_say(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def document_of(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(printed(capsys, *words))
        return found

    cies.ingest("photos.cies", ["photos", "catalog.csv"], ["color", "shape"])
    g = cies.open("photos.cies")
    facets = document_of("facets", "-g", "photos.cies", "-c", "color", "--json")["facets"]
    assert [(one.word, len(one), one.share) for one in g.facets("color")] == [
        (one["word"], one["pictures"], one["share"]) for one in facets
    ]
    assert sum(len(one) for one in g.groups("color")) == len(g) == 26
    cheap = g.facets("color", where="price < 3")
    assert sum(len(one) for one in cheap) <= 6
    found = document_of("outliers", "-g", "photos.cies", "-c", "color", "--json", "-k", "5")
    assert [hit.key for hit in g.outliers("color", 5)] == [o["key"] for o in found["outliers"]]
    (Path("photos") / "copy.png").write_bytes(Path("photos/03.png").read_bytes())
    cies.ingest(g)
    assert [sorted(Path(p).name for p in one.paths) for one in g.copies()] == [
        ["03.png", "copy.png"]
    ]
    table = g.attributes(where="sku = '00100'")
    assert table.column("path").to_pylist() == ["photos/05.png"]
    assert np.isclose(g.vectors("color").vectors @ g.vectors("color").vectors[0], 1).sum() >= 1
    removed = g.remove("photos/03.png")
    assert removed is not None and len(g) == 26 and not g.copies()
    assert not [finding for finding in g.verify() if finding.damage]

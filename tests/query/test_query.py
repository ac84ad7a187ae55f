"""What can be asked, against plain arithmetic and the labels of a rendered world."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.kinds import fill, png, put
from support.stand_in import StandIn

import cies
from eval.world.factors import sample_scenes
from eval.world.render import render
from indexes.errors import UnknownCondition, UsageError
from query.engine import Engine
from query.question import ALIKE_ABOVE, Region

#: Few shapes, so that each has many pictures of other colors.
SHAPES = ("circle", "star", "heart", "arrow")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """120 rendered pictures of four shapes under three conditions, with a table of products."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "images").mkdir()
    scenes = [s for s in sample_scenes(2000, 21) if s.labels["shape"] in SHAPES][:120]
    lines = ["file,sku,price"]
    labels = {}
    for number, scene in enumerate(scenes):
        name = f"{number:03}.jpg"
        exif = Image.Exif()
        if number % 3:
            exif[0x0132] = f"2024:{number % 12 + 1:02}:05 10:00:00"
        render(scene, 128).save(folder / "images" / name, quality=92, exif=exif)
        lines.append(f"images/{name},sku-{number // 4},{number / 2}")
        labels[name] = dict(scene.labels)
    table = folder / "products.csv"
    table.write_text("\n".join(lines) + "\n")
    place = folder / "gallery"
    cies.ingest(cies.create(place), [table], ["color", "shape", "background"])
    return place, labels


@pytest.fixture
def engine(shop: tuple[Path, dict[str, dict[str, str]]]) -> Engine:
    return cies.open(shop[0])


def names(hits: cies.Hits) -> list[str]:
    return [Path(hit.path).name for hit in hits]


def standard(engine: Engine, condition: str) -> np.ndarray:
    """Cosines of all pairs, less the mean of the pairs, over their deviation."""
    vectors = engine.vectors(condition).vectors
    cosines = vectors @ vectors.T
    pairs = cosines[np.triu_indices(len(vectors), 1)]
    return (cosines - pairs.mean()) / pairs.std()


# -- several conditions ------------------------------------------------------------------------


def test_same_shape_other_color(
    engine: Engine, shop: tuple[Path, dict[str, dict[str, str]]]
) -> None:
    _, labels = shop
    right, shape_alone = [], []
    for name, own in labels.items():
        image = shop[0].parent / "images" / name
        for found, unlike in ((right, "color"), (shape_alone, ())):
            for other in names(engine.search(image, "shape", 10, unlike=unlike)):
                same = labels[other]["shape"] == own["shape"]
                found.append(same and labels[other]["color"] != own["color"])
    assert len(right) == 1200
    assert np.mean(right) >= 0.9
    # Without --not it would have been less: about a tenth of a shape has the color, and is nearest.
    assert np.mean(right) > np.mean(shape_alone) + 0.03


def test_totals_parts_and_percentiles_are_plain_arithmetic(engine: Engine) -> None:
    keys = engine.vectors("color").keys
    z = {name: standard(engine, name) for name in ("color", "shape", "background")}
    total = 2 * z["shape"] + 0.5 * z["background"] - 3 * np.maximum(z["color"], 0)
    total /= 2.5
    pairs = np.sort(total[np.triu_indices(120, 1)])
    weights = {"shape": 2, "background": 0.5}
    for own in (0, 57):
        hits = engine.search(keys[own], weights, 119, unlike={"colour": 3})
        order = [row for row in np.argsort(-total[own], kind="stable") if row != own]
        assert [hit.key for hit in hits] == [keys[row] for row in order]
        assert np.allclose([hit.score for hit in hits], total[own][order], atol=1e-4)
        for hit, row in zip(hits, order, strict=True):
            want = 100 * (pairs < total[own, row]).mean()
            assert hit.percentile == pytest.approx(want, abs=0.05)
        plain = engine.search(keys[own], "shape", 119)
        cosine = {hit.key: (hit.score, hit.percentile, hit.word) for hit in plain}
        for hit in hits:
            assert [(p["condition"], p["weight"]) for p in hit.parts] == [
                ("shape", 2),
                ("background", 0.5),
                ("color", -3),
            ]
            score, percentile, word = cosine[hit.key]
            assert hit.parts[0]["score"] == pytest.approx(score, abs=1e-6)
            assert hit.parts[0]["percentile"] == pytest.approx(percentile, abs=0.05)
            assert hit.parts[0]["word"] == hit.word == word
    assert hits.query.condition == "shape=2 background=0.5 not color=3"


def test_weights_move_answers_from_one_end_to_the_other(engine: Engine) -> None:
    keys = engine.vectors("color").keys
    z = {name: standard(engine, name) for name in ("color", "shape")}
    weights = np.linspace(0, 1, 6)
    overlaps = np.zeros((6, 2))
    for own in range(0, 120, 4):
        ends = [{hit.key for hit in engine.search(keys[own], c, 10)} for c in ("color", "shape")]
        before = None
        for step, weight in enumerate(weights):
            hits = engine.search(keys[own], {"shape": weight, "color": 1 - weight}, 10)
            overlaps[step] += [len(ends[i] & {hit.key for hit in hits}) for i in (0, 1)]
            rows = [keys.index(hit.key) for hit in hits]
            # Of any two totals a + w b, the best ten under the greater w have no less b - a.
            gain = sum(z["shape"][own, row] - z["color"][own, row] for row in rows)
            assert before is None or gain >= before - 1e-4
            before = gain
    assert (np.diff(overlaps[:, 0]) <= 0).all() and (np.diff(overlaps[:, 1]) >= 0).all()
    assert overlaps[0, 0] == overlaps[5, 1] == 300 > overlaps[3].min() > overlaps[0, 1]


def test_one_condition_is_the_search_it_was_and_weight_nothing_costs_nothing(
    engine: Engine,
) -> None:
    key = engine.vectors("color").keys[7]
    want = engine.search(key, "color", 5)
    for asked in (
        ["color"],
        {"color": 3},
        "color=2",
        {"color": 1, "shape": 0},
        ["color", "colour"],
    ):
        assert engine.search(key, asked, 5, unlike={"background": 0}).hits == want.hits
    assert len(engine._opened.tables._tables) == 1


@pytest.mark.parametrize(
    ("condition", "unlike", "message"),
    [
        ("color=-1", (), "the weight -1; give a number of at least 0"),
        ({"color": float("nan")}, (), "the weight nan"),
        ({"color": 0}, (), "No condition has a weight above 0"),
        ("color,shape", (), "give each a --condition of its own"),
        ("color=two", (), "a weight is a number"),
        ("color", "colour", "'color' is given by --condition and by --not"),
        ("color", "genre", "no condition 'genre'"),
        ("color=inf", (), "the weight inf"),
    ],
)
def test_weights_that_cannot_be(
    engine: Engine, condition: object, unlike: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        engine.search(engine.vectors("color").keys[0], condition, unlike=unlike)


def test_pictures_that_lack_a_condition_are_told_of(tmp_path: Path, world: Path) -> None:
    gallery = cies.create(tmp_path / "g")
    images = sorted((world / "images").iterdir())[:12]
    cies.ingest(gallery, images[:12], ["color"])
    gallery.conditions()
    for table in gallery.conditions():
        gallery._database.open(table.table)
    cies.ingest(gallery, images, ["shape"])
    shape = next(t for t in gallery.conditions() if t.name == "shape")
    lost = sorted(gallery.keys(shape))[3:5]
    gallery._database.open(shape.table).delete(lost)
    engine = cies.open(gallery.path)
    hits = engine.search(images[0], ["color", "shape"], 20, unlike=())
    assert "2 pictures are not embedded under all" in hits.notes[0]
    assert not {hit.key for hit in hits} & set(lost)
    column = {name: engine.vectors(name) for name in ("color", "shape")}
    both = [key for key in column["color"].keys if key in column["shape"].keys]
    z = []
    for held in column.values():
        vectors = held.vectors[[held.keys.index(key) for key in both]]
        cosines = vectors @ vectors.T
        pairs = cosines[np.triu_indices(len(both), 1)]
        z.append((cosines - pairs.mean()) / pairs.std())
    own = both.index(hits.query.key)
    want = {key: sum(z)[own, row] / 2 for row, key in enumerate(both)}
    assert {hit.key: hit.score for hit in hits} == pytest.approx(
        {key: total for key, total in want.items() if key != hits.query.key}, abs=1e-4
    )


# -- several pictures, and parts of one --------------------------------------------------------


@pytest.mark.parametrize("combine", ["mean", "any", "all"])
def test_several_pictures(engine: Engine, combine: str) -> None:
    column = engine.vectors("color")
    chosen = [3, 40, 90]
    cosines = column.vectors @ column.vectors[chosen].T
    want = {"mean": cosines.mean(1), "any": cosines.max(1), "all": cosines.min(1)}[combine]
    hits = engine.search([column.keys[row] for row in chosen], "color", 117, combine=combine)
    order = [row for row in np.argsort(-want, kind="stable") if row not in chosen]
    assert np.allclose([hit.score for hit in hits], want[order], atol=1e-5)
    assert {hit.key for hit in hits[:20]} == {column.keys[row] for row in order[:20]}
    z = {name: standard(engine, name) for name in ("color", "shape")}
    totals = ((z["color"] + z["shape"]) / 2)[chosen]
    want = {"mean": totals.mean(0), "any": totals.max(0), "all": totals.min(0)}[combine]
    keys = [column.keys[row] for row in chosen]
    hits = engine.search(keys, ["color", "shape"], 117, combine=combine)
    assert np.allclose(
        [hit.score for hit in hits], np.sort(np.delete(want, chosen))[::-1], atol=1e-4
    )
    assert hits.query.keys == tuple(keys) and hits.query.combine == combine


def test_every_form_of_a_picture_gives_the_same_answer(engine: Engine) -> None:
    path = Path(engine.path(engine.vectors("color").keys[5]))
    want = engine.search(path, "color", 5)
    by_bytes = engine.search(path.read_bytes(), "color", 5)
    assert by_bytes.query.in_gallery and by_bytes.hits == want.hits
    image = Image.open(path)
    for form in (image, np.asarray(image)):
        hits = engine.search(form, "color", 6)
        assert not hits.query.in_gallery and hits[0].key == want.query.key
        assert [hit.key for hit in hits[1:4]] == [hit.key for hit in want[:3]]
    for wrong, message in (
        (np.zeros((4, 4, 2), np.uint8), r"An array of uint8 \[4, 4, 2\] is not a picture"),
        (np.zeros((4, 4)), "An array of float64"),
        (b"GIF89a nothing", "Cannot read the query image"),
        (5, "A int cannot be used as a picture"),
        ([], "There is no picture to search with"),
    ):
        with pytest.raises(UsageError, match=message):
            engine.search(wrong, "color")


def test_a_part_of_a_picture_is_that_part(engine: Engine, tmp_path: Path) -> None:
    path = Path(engine.path(engine.vectors("color").keys[9]))
    part = Image.open(path).convert("RGB").crop((32, 0, 96, 64))
    want = engine.search(part, "color", 5)
    for crop in ("32,0,64,64", (0.25, 0, 0.5, 0.5)):
        for form in (path, engine.vectors("color").keys[9], path.read_bytes()):
            hits = engine.search(form, "color", 5, crop=crop)
            assert not hits.query.in_gallery
            # The picture itself is known and not among the hits.
            assert hits.query.key not in {hit.key for hit in hits}
            others = [hit.score for hit in want if hit.key != hits.query.key]
            assert np.allclose([hit.score for hit in hits[:4]], others[:4], atol=1e-4)
    # Orientation: a part is of what is seen.
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(turned, exif=exif)
    engine.search(turned, "color", 1, crop="0,40,32,24")
    for crop, message in (
        ("0,40,40,24", "does not lie inside the picture, which has 32 x 64 pixels"),
        ("0,0,0.001,1", "does not lie inside"),
        ("1,2,3", "is not a part of a picture; give x,y,w,h"),
        ("0,0,nan,1", "is not a part"),
        ("0,0,-1,1", "is not a part"),
    ):
        with pytest.raises(UsageError, match=message):
            engine.search(turned, "color", crop=crop)
    assert str(Region.parse("0.5,0,.5,1")) == "0.5,0,0.5,1"


# -- filters and presentation ------------------------------------------------------------------


def test_filters_are_exact_and_before_the_search(engine: Engine) -> None:
    key = engine.vectors("color").keys[2]
    everything = engine.search(key, "color", 119)
    price = {name: number / 2 for number, name in enumerate(f"{n:03}.jpg" for n in range(120))}
    hits = engine.search(key, "color", 10, where="price < 9 OR sku = 'sku-29'")
    allowed = [
        hit for hit in everything if price[names([hit])[0]] < 9 or price[names([hit])[0]] >= 58
    ]
    assert [hit.key for hit in hits] == [hit.key for hit in allowed[:10]]
    assert [hit.percentile for hit in hits] == [hit.percentile for hit in allowed[:10]]
    said = engine.search(key, "shape", 119, where="word = 'star'")
    assert said and {hit.word for hit in said} == {"star"}
    both = engine.search(key, ["color", "shape"], 119, where="word = 'red' and price > 3")
    assert {hit.word for hit in both} == {"red"}
    assert not engine.search(key, "color", where="price > 1000")
    with pytest.raises(UsageError, match=r"there is no column 'prize'.*price \(number\)"):
        engine.search(key, "color", where="prize > 1")


def test_not_the_same_product_again(engine: Engine) -> None:
    path = engine.path(engine.vectors("color").keys[0])
    number = int(Path(path).stem)
    same = {f"{n:03}.jpg" for n in range(number // 4 * 4, number // 4 * 4 + 4)}
    assert same - {Path(path).name} <= set(names(engine.search(path, "shape", 119)))
    hits = engine.search(path, "shape", 119, exclude_same="sku")
    assert len(hits) == 116 and not same & set(names(hits))
    with pytest.raises(UsageError, match=r"There is no column 'skew' for --exclude-same.* sku"):
        engine.search(path, "shape", exclude_same="skew")
    with pytest.raises(UsageError, match="has no value in the column 'sku'"):
        engine.search(Image.open(path), "shape", exclude_same="sku")


def test_a_copy_is_shown_at_the_path_that_the_filter_lets_through(
    world: Path, tmp_path: Path
) -> None:
    images = sorted((world / "images").iterdir())[:3]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for image in images:
            (tmp_path / folder / image.name).write_bytes(image.read_bytes())
    cies.ingest(cies.create(tmp_path / "g"), [tmp_path / "a", tmp_path / "b"], ["color"])
    engine = cies.open(tmp_path / "g")
    for folder in ("a", "b"):
        hits = engine.search(images[0], "color", where=f"path LIKE '{folder}/%'")
        assert {Path(hit.path).parent.name for hit in hits} == {folder} and len(hits) == 2


def test_order_and_least_percentile(engine: Engine) -> None:
    key = engine.vectors("color").keys[2]
    plain = engine.search(key, "color", 12)
    by_path = engine.search(key, "color", 12, sort="path")
    assert [hit.path for hit in by_path] == sorted(hit.path for hit in plain)
    assert {hit.key: hit.rank for hit in by_path} == {hit.key: hit.rank for hit in plain}
    by_date = names(engine.search(key, "color", 12, sort="date"))
    months = [int(n[:3]) % 12 + 1 if int(n[:3]) % 3 else 0 for n in by_date]
    assert months == sorted(months, reverse=True) and 0 in months
    limit = plain[4].percentile
    kept = engine.search(key, "color", 12, min_percentile=limit)
    assert [hit.key for hit in kept] == [hit.key for hit in plain if hit.percentile >= limit]
    none = engine.search(key, "color", 12, min_percentile=100)
    assert not none and "All 12 hits lie below the percentile 100" in none.notes[0]
    for wrong in ({"sort": "name"}, {"combine": "sum"}, {"min_percentile": 101}, {"crop": "1"}):
        with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "-")):
            engine.search(key, "color", **wrong)


def test_near_duplicates_are_folded(tmp_path: Path) -> None:
    for number in range(20):
        for copy in range(1 + 3 * (number % 4 == 1)):
            put(tmp_path / "p" / f"{number:02}-{copy}.png", png(number) + b"\0" * copy)
    gallery = cies.create(tmp_path / "g")
    fill(gallery, tmp_path / "p", names="color shape")
    engine = Engine(gallery, lambda spec: StandIn())
    plain = engine.search(tmp_path / "p" / "00-0.png", ["color", "shape"], 99)
    assert len(plain) == 34
    want: dict[str, list[str]] = {}
    for hit in plain:
        want.setdefault(Path(hit.path).name[:2], []).append(hit.path)
    for k in (1, 3, 99):
        hits = engine.search(
            tmp_path / "p" / "00-0.png", ["color", "shape"], k, group_duplicates=True
        )
        got = [[hit.path, *hit.duplicates] for hit in hits]
        assert got == list(want.values())[:k]
        hidden = sum(len(group) - 1 for group in got)
        assert len(hits.notes) == (hidden > 0)
    assert f"{15} near-duplicates are folded" in hits.notes[0]
    # What is alike in color alone is no duplicate.
    alone = engine.search(tmp_path / "p" / "00-0.png", "color", 99, group_duplicates=True)
    assert len(alone) == 19


def test_it_says_when_nothing_is_really_alike(
    engine: Engine, shop: tuple[Path, dict[str, dict[str, str]]]
) -> None:
    _, labels = shop
    there, absent = [], []
    for name, own in list(labels.items())[::3]:
        image = shop[0].parent / "images" / name
        kin = [n for n, other in labels.items() if other["color"] == own["color"]]
        hits = engine.search(image, "color", 3)
        assert hits.nothing_alike == (hits[0].percentile < ALIKE_ABOVE == hits.alike_above)
        there.append(hits.nothing_alike)
        others = " AND ".join(f"path NOT LIKE '%{n}'" for n in kin)
        absent.append(engine.search(image, "color", 3, where=others).nothing_alike)
    assert np.mean(there) < 0.15 and np.mean(absent) > 0.5
    hits = engine.search(image, "color", 3, alike_above=0)
    assert not hits.nothing_alike and hits.to_json()["alike_above"] == 0
    document = engine.search(image, "color", 3, alike_above=100, where=others).to_json()
    assert document["nothing_alike"] is True


def test_unknown_conditions_stay_their_own_error(engine: Engine) -> None:
    with pytest.raises(UnknownCondition, match="no condition 'genre'"):
        engine.search(io.BytesIO(b"").getvalue(), "genre")


# -- the command -------------------------------------------------------------------------------


def test_the_command_asks_all_this_and_imports_no_model(
    shop: tuple[Path, dict[str, dict[str, str]]],
) -> None:
    path = shop[0].parent / "images" / "004.jpg"
    code = (
        "import sys; from cies.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print('LOADED', *loaded & {'torch', 'transformers', 'faiss', 'tokenizers'})\n"
        "sys.exit(code)"
    )
    asked = ["search", str(path), "-", "-g", str(shop[0]), "-c", "shape=2", "--condition", "color"]
    asked += ["--not", "background=0.5", "--combine", "any", "--where", "price < 50", "-k", "4"]
    asked += ["--exclude-same", "sku", "--sort", "path", "--alike-above", "100", "--json"]
    other = (shop[0].parent / "images" / "009.jpg").read_bytes()
    done = subprocess.run([sys.executable, "-c", code, *asked], input=other, capture_output=True)
    assert done.returncode == 0, done.stderr
    document, loaded = done.stdout.decode().split("LOADED")
    assert loaded.split() == []
    answer = json.loads(document)
    engine = cies.open(shop[0])
    want = engine.search(
        [path, other],
        {"shape": 2, "color": 1},
        4,
        unlike={"background": 0.5},
        combine="any",
        where="price < 50",
        exclude_same="sku",
        sort="path",
    )
    assert [hit["key"] for hit in answer["hits"]] == [hit.key for hit in want]
    assert [hit["parts"] for hit in answer["hits"]] == [list(hit.parts) for hit in want]
    assert answer["query"]["condition"] == "shape=2 color not background=0.5"
    assert answer["query"]["in_gallery"] is True and answer["nothing_alike"] is True
    assert b"Nothing here is really alike" in done.stderr

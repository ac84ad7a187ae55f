"""Several methods and models in one gallery: adding, keeping up, interrupting, completing."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.first_version import old_gallery
from support.kinds import png, put
from support.scans import versions
from support.stand_in import StandIn

from cies.cli.app import app
from cies.reports.plan import make_plan
from cies.reports.status import gallery_status, print_status
from indexes.errors import GalleryLocked, GalleryMismatch, UsageError
from indexes.repair import repair
from indexes.store.gallery import Gallery
from indexes.verify import verify
from ingest.conditions import Condition
from ingest.encoders.base import Embeddings, EncoderSpec
from ingest.encoders.models.find import is_dual
from ingest.encoders.options import EncoderOptions
from ingest.fill.encoder_choice import EncoderRequest, check_settings, choose_target
from ingest.fill.pipeline import IngestEvents, IngestReport, Progress, ingest
from ingest.fill.prune import delete_gone, find_gone
from ingest.fill.subset import embed_subset, mark_for_filling
from ingest.fill.vector_sources import base_vector_source, chosen_vector_source, vector_sources
from ingest.sources.base import SourceOptions
from ingest.sources.factory import open_sources

DIOR = StandIn().spec
CLIP = EncoderSpec("clip", "stand-in-clip", "1", {"dtype": "float32"})
OTHER = EncoderSpec("dior", "another", "1", {"prompt": "describe", "dtype": "float32"})


class Other(StandIn):
    """A stand-in of another method or model, with different vectors."""

    def __init__(self, spec: EncoderSpec, fail_after: int | None = None, refuses: str = ""):
        super().__init__(fail_after)
        self._spec = spec
        self._refuses = refuses

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    @property
    def conditional(self) -> bool:
        return self._spec.method != "clip"

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        if any(hashlib.sha256(image.tobytes()).hexdigest() == self._refuses for image in images):
            raise ValueError("this one is not for me")
        return super().embed(images, conditions, words)

    def vector(self, image: Image.Image, phrase: str) -> np.ndarray:
        return super().vector(image, f"{self._spec.model} {phrase}")


class Shop:
    """Loads encoders, by default of the first spec, and records all that it loaded."""

    def __init__(self, first: EncoderSpec, fails: dict[str, int] | None = None, refuses: str = ""):
        self.first = first
        self.fails = fails or {}
        self.refuses = refuses
        self.calls: list[tuple[str, int, tuple[str, ...]]] = []
        self.lent: list[weakref.ref[Other]] = []

    def __call__(self, spec: EncoderSpec | None) -> Other:
        gc.collect()
        assert not any(one() for one in self.lent), "two encoders at a time"
        spec = spec or self.first
        refuses = self.refuses if spec == CLIP else ""
        encoder = Other(spec, self.fails.get(spec.model), refuses)
        embed = encoder.embed

        def counted(images, conditions, words=True):  # type: ignore[no-untyped-def]
            found = embed(images, conditions, words)
            self.calls.append((spec.model, len(images), tuple(c.name for c in conditions)))
            return found

        encoder.embed = counted  # type: ignore[method-assign]
        self.lent.append(weakref.ref(encoder))
        return encoder

    def pictures(self, spec: EncoderSpec) -> int:
        return sum(count for model, count, _ in self.calls if model == spec.model)


def fill(
    gallery: Gallery,
    *sources: object,
    names: str = "",
    new: EncoderSpec | None = None,
    vector_source: EncoderSpec | None = None,
    shop: Shop | None = None,
) -> tuple[IngestReport, Shop]:
    shop = shop or Shop(new or DIOR)
    wanted = [Condition.parse(name) for name in names.split()]
    texts = [str(source) for source in sources]
    report = ingest(gallery, texts, wanted, shop, target=vector_source, is_new=new is not None)
    return report, shop


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the pictures for one test."""
    shutil.copytree(made / "p", tmp_path / "p", dirs_exist_ok=True)
    return tmp_path / "p"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures and a gallery of them in the same folder."""
    place = tmp_path_factory.mktemp("mixed")
    for number in range(20):
        put(place / "p" / f"{number:02}.png", png(number))
    gallery = Gallery.create(place / "gallery")
    fill(gallery, place / "p", names="color shape")
    fill(gallery, place / "p", names="mood", new=CLIP)
    return place


@pytest.fixture
def mixed(made: Path, tmp_path: Path) -> Gallery:
    """Twenty pictures under color and shape by one method, and unconditional by another."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Gallery.open(tmp_path / "gallery")


def whole(gallery: Gallery) -> bool:
    """Whether every table contains every picture that has a file."""
    live = set(gallery.paths())
    return all(gallery.keys(table) == live for table in gallery.conditions())


def told(gallery: Gallery) -> list[tuple[str, str]]:
    return [(t.made_by["method"], t.name) for t in gallery.conditions()]


# -- adding and keeping up ---------------------------------------------------------------------


def test_another_vector_source_is_added_and_all_are_kept_up(gallery: Gallery, folder: Path) -> None:
    fill(gallery, folder, names="color shape")
    report, shop = fill(gallery, folder, names="mood", new=CLIP)
    # One unconditional vector for each picture; the other encoder is not loaded.
    assert told(gallery) == [("dior", "color"), ("dior", "shape"), ("clip", "unconditional")]
    assert {(model, names) for model, _, names in shop.calls} == {
        ("stand-in-clip", ("unconditional",))
    }
    assert (report.embedded, report.unchanged, len(shop.lent)) == (20, 0, 1)
    # Two models of one method, under a condition that exists already.
    report, shop = fill(gallery, names="color", new=OTHER)
    assert [vector_source.name for vector_source in vector_sources(gallery)] == [
        "dior:stand-in",
        "clip:stand-in-clip",
        "dior:another",
    ]
    assert (report.embedded, shop.pictures(OTHER), len(shop.lent)) == (20, 20, 1)
    # New pictures are embedded by all of them, each vector by its own encoder.
    for number in range(20, 25):
        put(folder / f"{number}.png", png(number))
    (folder / "00.png").rename(folder / "renamed.png")
    shutil.copy(folder / "01.png", folder / "copy.png")
    (folder / "02.png").unlink()
    before = {t.table: gallery.column(t).keys for t in gallery.conditions()}
    report, shop = fill(gallery)
    assert [shop.pictures(spec) for spec in (DIOR, CLIP, OTHER)] == [5, 5, 5]
    assert (report.found, report.embedded, report.known, report.gone) == (25, 5, 2, 2)
    assert [(own.model, own.embedded) for own in report.vector_sources] == [
        ("stand-in-clip", 5),
        ("another", 5),
        ("stand-in", 5),
    ]
    pixels = Image.open(folder / "24.png")
    key = hashlib.sha256((folder / "24.png").read_bytes()).hexdigest()
    for table in gallery.conditions():
        column = gallery.column(table)
        assert set(column.keys) == {*before[table.table], *gallery.paths()}
        spec = EncoderSpec.from_made_by(table.made_by)
        vector = (StandIn() if spec == DIOR else Other(spec)).vector(
            pixels, table.made_by["phrase"]
        )
        if spec == DIOR:
            vector = Other(spec).vector(pixels, table.made_by["phrase"])
        assert np.allclose(column.vectors[column.keys.index(key)], vector, atol=1e-3)
    # Again: no encoder is loaded, and no table gets another version.
    versions_before = versions(gallery)
    report, shop = fill(gallery)
    assert (report.unchanged, report.embedded, shop.lent) == (25, 0, [])
    assert versions(gallery) == versions_before
    # The main vector source embeds under a condition if no other is named.
    fill(gallery, names="style")
    assert told(gallery)[-1] == ("dior", "style")
    assert gallery.conditions()[-1].made_by["model"] == "stand-in"
    fill(gallery, names="style", vector_source=OTHER)
    assert gallery.conditions()[-1].made_by["model"] == "another"
    assert [f.text for f in verify(gallery.path) if f.damage] == []
    with gallery.writer() as writer:
        delete_gone(gallery, writer, find_gone(gallery))
    assert whole(gallery)
    for table in gallery.conditions():
        statistics = gallery.statistics(table)
        assert statistics is not None and statistics.count == 24


def test_a_model_with_other_settings_is_refused(mixed: Gallery) -> None:
    otherwise = EncoderSpec("clip", "stand-in-clip", "2", {"dtype": "float32"})
    with pytest.raises(GalleryMismatch, match="clip by stand-in-clip that were made in another"):
        fill(mixed, new=otherwise)
    first, base = vector_sources(mixed)
    check_settings(mixed, first, EncoderRequest(prompt="describe", options=EncoderOptions()))
    with pytest.raises(GalleryMismatch, match="built with prompt describe, not shortly"):
        check_settings(mixed, first, EncoderRequest(prompt="shortly"))
    with pytest.raises(UsageError, match="--prompt does not apply to the method clip"):
        check_settings(mixed, base, EncoderRequest(prompt="describe"))
    with pytest.raises(UsageError, match="No condition was named"):
        fill(mixed, new=OTHER)
    assert len(vector_sources(mixed)) == 2


def test_the_target_of_an_ingest(mixed: Gallery, tmp_path: Path) -> None:
    first, base = vector_sources(mixed)
    assert choose_target(mixed).vector_source == first
    assert (
        choose_target(mixed, "clip").vector_source == base
        and not choose_target(mixed, "clip").conditional
    )
    assert (choose_target(mixed, "crl").vector_source, choose_target(mixed, "crl").view) == (
        base,
        "crl",
    )
    added = choose_target(mixed, None, "tiny-clip")
    assert (added.method, added.vector_source) == ("clip", None)
    assert choose_target(mixed, None, "tiny-lvlm").method == "dior"
    assert choose_target(mixed, "generative").vector_source is None
    assert [choose_target(None, m).model for m in (None, "indirect")] == ["tiny-lvlm", "tiny-clip"]
    with pytest.raises(UsageError, match="no method 'magic'"):
        choose_target(mixed, "magic")
    fill(mixed, names="color", new=OTHER)
    with pytest.raises(UsageError, match="several models; name one with --model: stand-in, anoth"):
        choose_target(mixed, "dior")
    for kind, dual in (("siglip2", True), ("qwen2_5_vl", False)):
        put(tmp_path / kind / "config.json", json.dumps({"model_type": kind}))
        assert is_dual(str(tmp_path / kind)) == dual
    assert is_dual("open_clip:ViT-B-32/openai") and not is_dual("Qwen/Qwen2.5-VL-3B-Instruct")


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [CLIP, DIOR])
def test_a_run_that_dies_with_either_encoder_loses_and_repeats_nothing(
    victim: EncoderSpec, mixed: Gallery, folder: Path, small: None
) -> None:
    new = {f"{number}.png" for number in range(20, 44)}
    for number in range(20, 44):
        put(folder / f"{number}.png", png(number))
    shop = Shop(DIOR, fails={victim.model: 3})
    with pytest.raises(RuntimeError, match="went down"):
        fill(mixed, shop=shop)
    tables = mixed.conditions()
    # A file is recorded only when every vector source has embedded its picture.
    recorded = set(mixed.paths())
    assert all(recorded <= mixed.keys(table) for table in tables)
    names = {Path(path).name for paths in mixed.paths().values() for path in paths}
    assert len(names & new) == (0 if victim == CLIP else 12)
    lacking = [44 - len(mixed.keys(table)) for table in tables]
    report, shop = fill(mixed)
    assert lacking == [shop.pictures(DIOR), shop.pictures(DIOR), shop.pictures(CLIP)]
    assert whole(mixed) and len(mixed.paths()) == 44
    assert report.embedded == max(lacking) and report.failed == []


def test_a_picture_that_one_encoder_refuses_is_found_by_the_other(
    mixed: Gallery, folder: Path
) -> None:
    put(folder / "odd.png", png(77))
    put(folder / "bad.png", "text")
    refused = hashlib.sha256(Image.open(folder / "odd.png").tobytes()).hexdigest()
    report, _ = fill(mixed, shop=Shop(DIOR, refuses=refused))
    assert sorted((Path(r.path).name, r.status) for r in report.failed) == [
        ("bad.png", "not_an_image"),
        ("odd.png", "embed_error"),
    ]
    key = hashlib.sha256(png(77)).hexdigest()
    assert [key in mixed.keys(table) for table in mixed.conditions()] == [True, True, False]
    assert key in mixed.paths()
    # The next run tries only the other encoder again.
    report, shop = fill(mixed)
    assert (shop.pictures(DIOR), shop.pictures(CLIP)) == (0, 1) and whole(mixed)


def test_a_file_that_changes_between_two_encoders_waits_for_the_next_run(
    mixed: Gallery, folder: Path
) -> None:
    put(folder / "new.png", png(60))
    put(folder / "other.png", png(61))

    def change(state: Progress) -> None:
        if state.stage.startswith("2"):
            put(folder / "new.png", png(62))

    report = ingest(mixed, [], [], Shop(DIOR), events=IngestEvents(change))
    assert report.notes == ["1 files changed while they were read; run this again to ingest them"]
    assert len(mixed.paths()) == 21
    fill(mixed)
    live = set(mixed.paths())
    assert len(live) == 22 and all(live <= mixed.keys(table) for table in mixed.conditions())


def test_progress_is_reported_by_stage(mixed: Gallery, folder: Path) -> None:
    put(folder / "new.png", png(60))
    told: list[Progress] = []
    ingest(mixed, [], [Condition.parse("mood")], Shop(DIOR), events=IngestEvents(told.append))
    stages = list(dict.fromkeys(state.stage for state in told))
    # The encoder that had to be loaded for the new condition comes first.
    assert stages == ["1 of 2, dior by stand-in", "2 of 2, clip by stand-in-clip"]
    ends = [[s for s in told if s.stage == stage][-1] for stage in stages]
    assert [(s.done, s.total, s.embedded) for s in ends] == [(21, 21, 21), (1, 1, 1)]
    told.clear()
    put(folder / "new2.png", png(61))
    ingest(Gallery.open(mixed.path), [], [], Shop(DIOR), events=IngestEvents(told.append))
    assert next(s.stage for s in told) == "1 of 2, clip by stand-in-clip"


def test_a_mixed_gallery_is_repaired_by_its_own_encoders(mixed: Gallery) -> None:
    fill(mixed, names="color", new=OTHER)
    tables = mixed.conditions()
    assert [t.name for t in tables] == ["color", "shape", "unconditional", "color"]
    embed_subset(mixed, OTHER, Condition.parse("mood"), sorted(mixed.paths())[:5], Shop(OTHER))
    partial = mixed.conditions()[-1]
    for table in (tables[3], partial):
        data = next((mixed.path / f"{table.table}.lance" / "data").glob("*.lance"))
        bytes_ = bytearray(data.read_bytes())
        for place in range(len(bytes_) // 8, len(bytes_) // 2, 64):  # Some bytes are padding.
            bytes_[place : place + 8] = b"\xff" * 8
        data.write_bytes(bytes_)
    found = [f for f in verify(mixed.path) if f.damage]
    assert {f.table for f in found} == {tables[3].table, partial.table}
    assert any("'color (dior by another)'" in f.text for f in found)
    done = repair(mixed.path)
    gallery = Gallery.open(mixed.path)
    assert list(done.embed_again) == ["color (dior by another)"]
    assert any("'mood'" in step and "when a search needs them" in step for step in done.steps) or (
        any("'mood'" in step and "created again" in step for step in done.steps)
    )
    lost = 20 - len(gallery.keys(tables[3]))
    _report, shop = fill(gallery)
    assert lost and {method for method, _, _ in shop.calls} == {"another"}
    assert sum(number for _, number, _ in shop.calls) == lost
    assert len(gallery.keys(tables[3])) == 20 and len(gallery.keys(partial)) < 5
    keys = sorted(gallery.paths())[:5]
    assert embed_subset(gallery, OTHER, Condition.parse("mood"), keys, Shop(OTHER)) > 0
    assert [f.text for f in verify(gallery.path) if f.damage] == []


# -- partial tables ----------------------------------------------------------------------------


def test_some_pictures_are_embedded_and_the_rest_on_request(
    mixed: Gallery, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mood = Condition.parse("mood")
    paths = mixed.paths()
    keys = sorted(paths, key=lambda key: paths[key])
    (folder / "03.png").unlink()
    put(folder / "04.png", png(400))
    shop, states = Shop(DIOR), []
    some = [*keys[:6], "0" * 64]
    assert embed_subset(mixed, DIOR, mood, some, shop, states.append) == 4
    assert (states[-1].done, states[-1].total, states[-1].failed) == (7, 7, 3)
    table = mixed.conditions()[-1]
    assert (table.name, table.partial, table.kept_up) == ("mood", True, False)
    assert mixed.keys(table) == {keys[n] for n in (0, 1, 2, 5)}
    statistics = mixed.statistics(table)
    assert statistics is not None and statistics.count == 4
    column = mixed.column(table)
    expected = Other(DIOR).vector(Image.open(folder / "00.png"), "mood")
    assert np.allclose(column.vectors[column.keys.index(keys[0])], expected, atol=1e-3)
    # Existing vectors are not computed again, and no encoder is loaded.
    shop = Shop(DIOR)
    assert embed_subset(mixed, DIOR, mood, [keys[0], keys[1]], shop) == 0 and shop.lent == []
    assert embed_subset(mixed, DIOR, Condition.parse("Mood"), keys[:8], shop) == 2
    with mixed.writer(), pytest.raises(GalleryLocked):
        embed_subset(mixed, DIOR, mood, keys, shop)
    # An ingest does not complete it without a request.
    report, shop = fill(mixed)
    assert (shop.pictures(DIOR), shop.pictures(CLIP)) == (1, 1) and "mood" not in report.conditions
    assert len(mixed.keys(table)) == 6
    status = gallery_status(mixed)
    entry = next(e for e in status["conditions"] if e["name"] == "mood")
    assert (entry["pictures"], entry["missing"]) == (6, 13)
    assert (entry["partial"], entry["filling"]) == (True, False)
    print_status(status)
    assert "mood\t6 of 19 (partial)\t" in capsys.readouterr().out
    assert not any("mood" in f.text for f in verify(mixed.path))
    # Once marked, the next run completes it, and then it is like any other table.
    mark_for_filling(mixed, table)
    assert mixed.conditions()[-1].filling
    with pytest.raises(RuntimeError):
        fill(mixed, shop=Shop(DIOR, fails={"stand-in": 0}))
    assert mixed.conditions()[-1].filling and mixed.conditions()[-1].partial
    report, shop = fill(mixed)
    assert shop.calls == [("stand-in", 8, ("mood",)), ("stand-in", 5, ("mood",))]
    done = mixed.conditions()[-1]
    assert (done.partial, done.filling, len(mixed.keys(done) & set(mixed.paths()))) == (
        False,
        False,
        19,
    )
    mark_for_filling(mixed, done)
    assert not mixed.conditions()[-1].partial


def test_a_partial_table_is_completed_when_its_condition_is_ingested(mixed: Gallery) -> None:
    keys = sorted(mixed.paths())
    assert embed_subset(mixed, OTHER, Condition.parse("color"), keys[:3], Shop(OTHER)) == 3
    assert embed_subset(mixed, DIOR, Condition.parse("style"), keys[:3], Shop(DIOR)) == 3
    assert base_vector_source(mixed) == chosen_vector_source(mixed, "clip")
    fill(mixed, names="style")
    partial = {(t.made_by["model"], t.name): t.partial for t in mixed.conditions()}
    assert partial["stand-in", "style"] is False and partial["another", "color"] is True
    _report, shop = fill(mixed, names="color", vector_source=OTHER)
    assert shop.pictures(OTHER) == 17 and whole(mixed)


def test_residual_galleries_have_the_vectors_that_are_subtracted(
    tmp_path: Path, folder: Path
) -> None:
    gallery = Gallery.create(tmp_path / "g", "residual")
    fill(gallery, folder, names="color unconditional")
    keys = sorted(gallery.paths())[:4]
    assert embed_subset(gallery, OTHER, Condition.parse("mood"), keys, Shop(OTHER)) == 4
    other = [t for t in gallery.conditions() if t.made_by["model"] == "another"]
    assert [t.name for t in other] == ["mood", "unconditional"]
    assert all(gallery.keys(t) == set(keys) and t.partial for t in other)


# -- plans -------------------------------------------------------------------------------------


def test_a_plan_has_a_part_for_each_vector_source(
    mixed: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cies.reports.plan._packing_and_dimension", lambda model: (True, 16))
    put(folder / "new.png", png(60))
    put(folder / "new2.png", png(61))
    opened = open_sources([str(folder)], SourceOptions(), mixed.root)
    wanted = [Condition.parse("mood")]
    speeds = {("dior", 1): 4.0, ("dior", 3): 2.0, ("clip", 1): 8.0}
    document = make_plan(
        mixed, mixed.path, opened, wanted, choose_target(mixed), rate=lambda m, _, n: speeds[m, n]
    )
    dior, clip = document["makers"]
    assert (dior["conditions"], dior["pictures"], dior["vectors"]) == (
        ["color", "shape", "mood"],
        22,
        26,
    )
    assert (clip["pictures"], clip["vectors"], clip["seconds"]) == (2, 2, 2 / 8)
    assert dior["seconds"] == 20 / 4 + 2 / 2
    assert (document["pictures"], document["vectors"], document["passes"]) == (22, 28, 24)
    assert document["seconds"] == dior["seconds"] + clip["seconds"]
    report, shop = fill(mixed, names="mood")
    assert (shop.pictures(DIOR), shop.pictures(CLIP)) == (dior["pictures"], clip["pictures"])
    assert report.embedded == document["pictures"]
    # A new vector source has to embed everything.
    document = make_plan(
        mixed,
        mixed.path,
        opened,
        wanted,
        choose_target(mixed, None, "tiny-lvlm"),
        rate=lambda m, _, n: 1,
    )
    assert [m["pictures"] for m in document["makers"]] == [0, 0, 22]


# -- real models -------------------------------------------------------------------------------


def cies(*words: object) -> None:
    app([str(word) for word in words], standalone_mode=False)


def test_both_built_in_models_on_the_command_line(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(1, 7):
        shutil.copy(world / "images" / f"0000{number}.jpg", pictures)
    cies("ingest", pictures, "-g", "g", "-c", "color", "--model", "tiny-lvlm")
    cies("ingest", pictures, "-g", "g", "--model", "tiny-clip", "-c", "mood", "--plan", "--json")
    out = capsys.readouterr()
    plan = json.loads(out.out)
    assert [m["pictures"] for m in plan["makers"]] == [0, 6] and "Note: clip stores one" in out.err
    assert plan["makers"][1]["bytes"] > 6 * 2 * 256
    cies("ingest", pictures, "-g", "g", "--method", "indirect", "-c", "mood", "--json")
    out = capsys.readouterr()
    report = json.loads(out.out)
    assert report["embedded"] == 6 and report["conditions"] == ["color", "unconditional"]
    assert "Note: indirect is computed from" in out.err and "can be searched at once" in out.err
    shutil.copy(world / "images" / "00007.jpg", pictures)
    cies("ingest", "-g", "g", "--json")
    report = json.loads(capsys.readouterr().out)
    assert [(m["method"], m["embedded"]) for m in report["makers"]] == [("clip", 1), ("dior", 1)]
    cies("status", "-g", "g", "--json")
    status = json.loads(capsys.readouterr().out)
    assert [(c["method"], c["model"], c["pictures"]) for c in status["conditions"]] == [
        ("dior", "tiny-lvlm", 7),
        ("clip", "tiny-clip", 7),
    ]
    gallery = Gallery.open("g")
    assert whole(gallery)
    # The stored vector is that of the picture embedded alone.
    from ingest.encoders.factory import make_encoder

    clip = make_encoder("clip")
    table = gallery.conditions()[1]
    column = gallery.column(table)
    path = gallery.location(gallery.paths()[column.keys[0]][0])
    alone = clip.encode([Image.open(path).convert("RGB")], [Condition.parse("unconditional")])
    assert np.abs(alone[0, 0] - column.vectors[0]).max() < 2e-3


def test_a_gallery_of_the_first_version_gains_another_vector_source(
    tmp_path: Path, folder: Path
) -> None:
    old_gallery(tmp_path / "old", folder)
    gallery = Gallery.open(tmp_path / "old")
    before = gallery.column(gallery.conditions()[0]).vectors
    report, shop = fill(gallery, folder, new=CLIP)
    assert (report.embedded, len(shop.lent)) == (20, 1) and whole(gallery)
    put(folder / "new.png", png(99))
    report, shop = fill(gallery, folder)
    assert (shop.pictures(DIOR), shop.pictures(CLIP)) == (1, 1) and whole(gallery)
    column = gallery.column(gallery.conditions()[0])
    kept = [column.vectors[column.keys.index(k)] for k in column.keys if k in gallery.paths()]
    assert len(kept) == 21 and {tuple(v) for v in before} <= {tuple(v) for v in kept}

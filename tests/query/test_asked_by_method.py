"""Questions by method: views, re-ranking and fusion, against plain arithmetic on real parts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.json_docs import documented, wrong
from support.mixed import add_table, with_base
from support.timed import Timed
from typer.testing import CliRunner

import cies
from cies.cli.app import app
from cies.measured import remember_speed
from eval.bench.reranking import TableReranker, bench_reranking
from eval.labels import read_labels
from indexes.errors import UnknownCondition, UsageError
from indexes.store.gallery import Gallery
from indexes.store.locking import locked
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import Timing
from ingest.encoders.methods.clip import ClipEncoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice
from ingest.encoders.projections.base import fit_projection
from ingest.vocabularies import vocabulary_of

STYLE = Condition.parse("style")


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    return ClipEncoder.load(EncoderChoice("clip", "tiny-clip"))


@pytest.fixture(scope="module")
def filled(
    world: Path, world_gallery: Path, clip: ClipEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Color and shape by DIOR beside base vectors; nothing about style."""
    return with_base(world_gallery, tmp_path_factory.mktemp("mixed") / "gallery", clip)


@pytest.fixture
def place(filled: Path, tmp_path: Path) -> Path:
    """A copy, since a search may add to it. Its pictures are named by whole paths."""
    return Path(shutil.copytree(filled, tmp_path / "gallery"))


@pytest.fixture
def engine(place: Path, builtin: DiorEncoder, clip: ClipEncoder) -> cies.Engine:
    """Loads nothing that is not loaded already."""
    opened = cies.open(place)
    opened.encoders.loaded += [builtin, clip]
    return opened


def cosines(vectors: np.ndarray, own: int) -> np.ndarray:
    found = vectors @ vectors[own]
    found[own] = -np.inf
    return found


def order(scores: np.ndarray, k: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:k].tolist()


# -- views -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["clay", "crl"])
def test_a_view_is_its_formula_on_the_base_vectors(
    engine: cies.Engine, clip: ClipEncoder, method: str
) -> None:
    base = engine.vectors(UNCONDITIONAL, "clip")
    words = vocabulary_of("style")
    texts = clip.encode_text(words.texts, [Condition.parse(UNCONDITIONAL)])[:, 0]
    statistics = engine.gallery.statistics(engine.table(UNCONDITIONAL, "clip"))
    assert statistics is not None
    view = fit_projection(method, words.words, texts, statistics.mean)
    moved = view.images(base.vectors)
    said, sure = view.nearest_words(base.vectors)
    hits = engine.search(base.keys[5], "style", 10, method=method)
    want = cosines(moved, 5)
    assert [hit.key for hit in hits] == [base.keys[row] for row in order(want, 10)]
    for hit in hits:
        row = base.keys.index(hit.key)
        assert hit.score == pytest.approx(float(want[row]), abs=1e-5)
        assert hit.word == said[row] and hit.word_probability == pytest.approx(float(sure[row]))
    pairs = (moved @ moved.T)[np.triu_indices(len(moved), 1)]
    assert hits[0].percentile == pytest.approx(100 * (pairs < hits[0].score).mean(), abs=0.1)
    asked = hits.query
    assert (asked.method, asked.model, asked.view) == (method, "tiny-clip", True)
    assert asked.in_gallery and asked.word == said[5] and not asked.reranked
    assert f"worked out by {method} from the tiny-clip vectors" in hits.notes[0]
    # What it can do with a new picture and with a text, it does in the same space.
    path = engine.path(base.keys[5])
    new = engine.search(path, "style", 10, method=method, crop=(0, 0, 1, 1))
    assert not new.query.in_gallery and new.query.word == said[5]
    assert [hit.key for hit in new] == [hit.key for hit in hits]
    red = engine.search_text("a red heart", "color", 5, method=method)
    assert red.query.view and "red" in [hit.word for hit in red]


def test_a_condition_of_no_table_is_answered_by_a_view_and_a_table_comes_first(
    engine: cies.Engine,
) -> None:
    key = engine.vectors("color").keys[0]
    assert engine.search(key, "colour", 3).query.method == "dior"
    assert engine.search(key, "style", 3, rerank=0).query.method == "clay"
    # Neither a table nor a list of words.
    with pytest.raises(UnknownCondition, match=r"no condition 'the owner's taste'.*list of words"):
        engine.search(key, "the owner's taste", 3)
    with pytest.raises(UsageError, match="no vectors made by generative"):
        engine.search(key, "color", 3, method="generative")
    with pytest.raises(UnknownCondition, match="no condition 'style' by dior:tiny-lvlm"):
        engine.search(key, "style", 3, method="dior")
    assert engine.names() == ["color", "shape"] and engine.names("clip") == [UNCONDITIONAL]
    raw = engine.search(key, "color", 3, method="clip")
    assert (raw.query.condition, raw.query.method) == ("color", "clip")
    plain = engine.search(key, UNCONDITIONAL, 3)
    assert [hit.key for hit in raw] == [hit.key for hit in plain]


def test_stored_and_worked_out_conditions_mix(engine: cies.Engine) -> None:
    keys = engine.vectors("color").keys
    z = {}
    for name in ("color", "style"):
        vectors = engine.vectors(name).vectors
        all_pairs = vectors @ vectors.T
        upper = all_pairs[np.triu_indices(len(keys), 1)]
        z[name] = (all_pairs - upper.mean()) / upper.std()
    hits = engine.search(keys[3], {"color": 2, "style": 1}, 8)
    total = (2 * z["color"][3] + z["style"][3]) / 3
    total[3] = -np.inf
    assert [hit.key for hit in hits] == [keys[row] for row in order(total, 8)]
    assert [part["method"] for part in hits[0].parts] == ["dior", "clay"]
    assert hits.query.method == "dior + clay"


def test_a_kept_view_needs_no_model(place: Path, engine: cies.Engine) -> None:
    """Neither torch nor transformers is imported, and a damaged file is made again."""
    key = engine.vectors("color").keys[2]
    want = [hit.path for hit in engine.search(key, "style", 5, rerank=0)]
    # As the command line finds it; where nothing was measured, nothing is re-ranked.
    code = (
        "import sys; sys.argv = ['cies', *sys.argv[1:]]\n"
        "from cies.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    asked = ["search", key, "-c", "style", "-k", "5", "-q", "-g", str(place)]
    command = [sys.executable, "-c", code, *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    *found, loaded = done.stdout.splitlines()
    assert found == want
    assert not {"torch", "transformers"} & set(loaded.split())
    assert "its speed on this machine is unknown" in done.stderr
    (kept,) = (place / "indexes").glob("c_*/view-*.npz")
    kept.write_bytes(kept.read_bytes()[:-100])
    fresh = cies.open(place)
    assert [hit.path for hit in fresh.search(key, "style", 5, rerank=0)] == want
    assert not fresh.encoders.loaded, "the words' vectors were kept beside it"


def test_every_command_takes_a_method(place: Path, tmp_path: Path, world: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "-m", "clay"])
        assert done.exit_code == 0, done.output
        return done.stdout

    at = ["-g", str(place)]
    facets = json.loads(run("facets", "-c", "style", "--json", *at))
    assert facets["method"] == "clay" and facets["pictures"] == 60 and not facets["without_word"]
    assert not wrong(facets, documented("cies facets --json"))
    outliers = json.loads(run("outliers", "-c", "style", "--json", *at))
    assert outliers["method"] == "clay" and not wrong(outliers, documented("cies outliers --json"))
    groups = json.loads(run("gallery", "-c", "style", "--json", *at))
    assert groups["conditions"][0]["method"] == "clay"
    index = json.loads(run("index", "-c", "style", "--json", *at))
    assert index["conditions"][0]["method"] == "clay" and index["conditions"][0]["pictures"] == 60
    assert json.loads(run("dupes", "--json", *at))["conditions"] == ["color", "shape"]
    run("export", "-c", "style", "-o", str(tmp_path / "style.npy"), *at)
    vectors = np.load(tmp_path / "style.npy")
    column = cies.open(place).vectors("style", "clay")
    assert (tmp_path / "style.keys.txt").read_text().split() == column.keys
    assert np.allclose(vectors, column.vectors, atol=1e-6)
    judged = json.loads(run("eval", str(place), "--labels", str(world / "labels.csv"), "--json"))
    assert {cell["condition"] for cell in judged["cells"]} == {"color", "shape"}


# -- re-ranking --------------------------------------------------------------------------------


def test_the_best_of_a_view_in_the_models_order(
    engine: cies.Engine, place: Path, builtin: DiorEncoder
) -> None:
    """The answer is that of a full table among the view's best; what is embedded is kept."""
    keys = engine.vectors("color").keys
    view = engine.vectors("style", "clay").vectors
    own = 4
    fused = np.zeros(60)
    for way in ("clay", "crl", "clip"):
        ranked = order(cosines(engine.vectors("style", way).vectors, own), 59)
        fused[ranked] += 1 / (60 + np.arange(1, 60))
    best = order(fused, 20)
    hits = engine.search(keys[own], "style", 25, rerank=20)
    assert hits.query.reranked == 20 and hits.query.reranked_by == "dior:tiny-lvlm"
    assert hits.query.view and hits.query.method == "clay"
    partial = engine.gallery.conditions()[-1]
    assert partial.partial and not partial.filling and partial.name == "style"
    assert engine.gallery.keys(partial) == {keys[row] for row in [own, *best]}
    # Against DIOR on the whole gallery, in another one.
    other = Gallery.open(shutil.copytree(place, place.with_name("full")))
    table = add_table(other, builtin, "style")
    column = other.column(table)
    assert column.keys == keys
    scores = cosines(column.vectors, own)
    want = sorted(best, key=lambda row: (-scores[row], row))
    assert [hit.key for hit in hits[:20]] == [keys[row] for row in want]
    assert [hit.score for hit in hits[:20]] == pytest.approx(scores[want].tolist(), abs=2e-3)
    assert [hit.word for hit in hits[:20]] == [column.words[row] for row in want]
    # Behind them the view goes on; percentiles are the view's throughout.
    rest = [row for row in order(cosines(view, own), 59) if row not in best]
    assert [hit.key for hit in hits[20:]] == [keys[row] for row in rest[:5]]
    assert [part["method"] for part in hits[0].parts] == ["clay", "dior"]
    assert hits[0].percentile == hits[0].parts[0]["percentile"]
    assert hits[24].parts == ()


def test_a_later_search_embeds_only_what_is_missing(
    engine: cies.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[int] = []
    embed = DiorEncoder.embed
    monkeypatch.setattr(
        DiorEncoder,
        "embed",
        lambda self, images, *rest, **more: (
            embedded.append(len(images)) or embed(self, images, *rest, **more)
        ),
    )
    key = engine.vectors("color").keys[9]
    first = engine.search(key, "style", 5, rerank=10)
    assert sum(embedded) == 11  # ten and the one that was asked with
    assert engine.search(key, "style", 5, rerank=10).hits == first.hits
    assert sum(embedded) == 11
    engine.search(key, "style", 5, rerank=15)
    assert sum(embedded) == 16
    # A filter comes before the view, whose best are then others; a text has no vector to keep.
    engine.search(key, "style", 5, rerank=5, where="path LIKE '%7.jpg'")
    assert sum(embedded) <= 21
    text = engine.search_text("a photo", "style", 5, rerank=10)
    assert text.query.reranked == 10 and not text.query.in_gallery


def test_what_cannot_be_ranked_again_is_said(engine: cies.Engine, place: Path) -> None:
    key = engine.vectors("color").keys[0]
    plain = [hit.key for hit in engine.search(key, "mood", 5, rerank=0)]
    refused = engine.search(key, "mood", 5, rerank=20)
    assert [hit.key for hit in refused] == plain and not refused.query.reranked
    assert any("was not trained on 'mood'" in note for note in refused.notes)
    stored = engine.search(key, "color", 5, rerank=20)
    assert any(
        "needs a single condition, answered by a projection" in note for note in stored.notes
    )
    before = engine.gallery.conditions()
    with locked(engine.gallery.path):
        hits = engine.search(key, "style", 5, rerank=20)
    assert hits.query.reranked == 20
    assert any("not kept: another process is writing" in note for note in hits.notes)
    assert engine.gallery.conditions() == before
    kept = engine.search(key, "style", 5, rerank=20)
    assert [hit.key for hit in kept] == [hit.key for hit in hits]
    # What is there is used while another one writes, and nothing need be said.
    with locked(engine.gallery.path):
        again = engine.search(key, "style", 5, rerank=20)
    assert [hit.key for hit in again] == [hit.key for hit in hits] and len(again.notes) == 1


def test_a_mark_has_the_next_ingest_complete_the_table(engine: cies.Engine, world: Path) -> None:
    key = engine.vectors("color").keys[0]
    hits = engine.search(key, "style", 5, rerank=5, fill=True)
    assert any("next `cies ingest` embeds the whole gallery" in note for note in hits.notes)
    (table,) = [t for t in engine.gallery.conditions() if t.name == "style"]
    assert table.partial and table.filling and len(engine.gallery.keys(table)) == 6
    cies.ingest(engine.gallery, [world / "images"])
    (table,) = [t for t in engine.gallery.conditions() if t.name == "style"]
    assert not table.partial and len(engine.gallery.keys(table)) == 60
    assert cies.open(engine.gallery.path).search(key, "style", 5).query.method == "dior"


def test_what_is_usual_hangs_on_the_measured_speed(engine: cies.Engine) -> None:
    key = engine.vectors("color").keys[0]

    def measured(pictures: int, seconds: float) -> None:
        remember_speed(Timed({1: Timing(pictures, seconds)}))

    unknown = engine.search(key, "style", 3)
    assert not unknown.query.reranked and "this machine is unknown" in unknown.notes[-1]
    measured(100, 10.0)
    slow = engine.search(key, "style", 3)
    assert not slow.query.reranked and "in about 20 s" in slow.notes[-1]
    measured(100, 1.0)
    assert engine.search(key, "style", 3, method="clay").query.reranked == 0, "clay was asked for"
    quick = engine.search(key, "style", 3)
    assert quick.query.reranked == 59
    unschooled = engine.search(key, "mood", 3)
    assert not unschooled.query.reranked and "not trained on 'mood'" in unschooled.notes[-1]


def test_re_ranking_finds_what_a_full_table_gives(engine: cies.Engine, world: Path) -> None:
    """Of 60 pictures half are ranked again; docs/query.md has 200 of 2,000."""
    labels = read_labels(world / "labels.csv")
    found = bench_reranking(engine, 30, "clay", 30, labels=labels, earlier=5)
    assert [one.condition for one in found] == ["color", "shape"]
    assert np.mean([one.reranked for one in found]) >= 0.9
    for one in found:
        assert one.by_chance == pytest.approx(30 / 59)
        assert one.reranked > one.by_view + 0.1 and one.reranked > one.by_chance + 0.3
        assert one.passes == 30 and one.passes_after is not None and one.passes_after < 15
        assert one.after is not None and one.after >= one.reranked - 0.05
        assert one.right_by_table is not None and one.right_reranked is not None
        assert one.right_reranked == pytest.approx(one.right_by_table, abs=0.05)
    with pytest.raises(UsageError, match="has no column for color, shape"):
        bench_reranking(engine, 30, "clay", 2, labels=replace(labels, columns=("price",)))
    with pytest.raises(UsageError, match="--queries 2 must be more than --earlier 5"):
        bench_reranking(engine, 30, "clay", 2, earlier=5)


def test_a_bench_of_re_ranking_finds_what_a_search_does(
    engine: cies.Engine, place: Path, builtin: DiorEncoder, clip: ClipEncoder
) -> None:
    """The full table that stands in for the model leads to the hits that the model leads to."""
    other = Gallery.open(shutil.copytree(place, place.with_name("full")))
    add_table(other, builtin, "style")
    full = cies.open(other.path)
    full.encoders.loaded += [builtin, clip]
    full.make_reranker = lambda *args: TableReranker(set(), *args)
    key = engine.vectors("color").keys[1]
    hits = engine.search(key, "style", 35, rerank=35)
    (table,) = [table for table in engine.gallery.conditions() if table.name == "style"]
    assert engine.gallery.keys(table) == {key, *(hit.key for hit in hits)}
    shown = full.search(key, "style", 35, method="clay", rerank=35)
    assert [hit.key for hit in shown] == [hit.key for hit in hits]
    # With a candidate for every picture the answer is the full table's.
    whole = engine.search(key, "style", 59, rerank=100)
    want = full.search(key, "style", 59, method="dior")
    assert whole.query.reranked == 59 and whole.hits[58].parts
    assert [hit.key for hit in whole] == [hit.key for hit in want]


def test_rounds_are_kept_in_memory_where_nothing_can_be_written(
    engine: cies.Engine, builtin: DiorEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is embedded once, whatever is asked with and however many rounds there are."""
    passes: list[int] = []
    embed = DiorEncoder.embed
    monkeypatch.setattr(
        DiorEncoder,
        "embed",
        lambda self, images, *rest, **more: (
            passes.append(len(images)) or embed(self, images, *rest, **more)
        ),
    )
    picture = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    told: list[tuple[int, int]] = []
    engine.progress = lambda state: told.append((state.done, state.total))
    with locked(engine.gallery.path):
        hits = engine.search(picture, "style", 40, rerank=40)
    assert sum(passes) == 41 and hits.query.reranked == 40
    assert [note for note in hits.notes if "not kept" in note] == [
        "40 pictures were embedded for this answer and not kept: another process is writing to it."
    ]
    assert told[-1] == (40, 40) and told == sorted(told)
    passes.clear()
    kept = engine.search(picture, "style", 40, rerank=40)
    assert sum(passes) == 41 and [h.key for h in kept] == [h.key for h in hits]


# -- fusion ------------------------------------------------------------------------------------


def test_reciprocal_ranks_are_fused_exactly(engine: cies.Engine) -> None:
    column = engine.vectors("color")
    keys, vectors = column.keys, [engine.vectors("color", m).vectors for m in ("dior", "clay")]
    for own, allowed in ((0, None), (7, "word <> 'red'")):
        open_to = [row for row in range(60) if row != own]
        if allowed:
            open_to = [row for row in open_to if column.words[row] != "red"]
        fused = dict.fromkeys(open_to, 0.0)
        for space in vectors:
            scores = space @ space[own]
            ranked = sorted(open_to, key=lambda row, scores=scores: (-scores[row], row))
            for rank, row in enumerate(ranked, start=1):
                fused[row] += 1 / (60 + rank)
        want = sorted(open_to, key=lambda row: (-fused[row], row))
        hits = engine.search(keys[own], "color", 60, method=["dior", "clay"], where=allowed)
        assert [hit.key for hit in hits] == [keys[row] for row in want]
        assert [hit.score for hit in hits] == pytest.approx([fused[row] for row in want])
        assert hits.query.method == "dior + clay" and hits.query.model == "tiny-lvlm + tiny-clip"
        for hit in hits[:5]:
            assert [part["method"] for part in hit.parts] == ["dior", "clay"]
            mean = np.mean([part["percentile"] for part in hit.parts])
            assert hit.percentile == pytest.approx(mean, abs=0.1)
    fuse = engine.search(keys[0], "color", 5, fuse=True)
    assert fuse.hits == engine.search(keys[0], "color", 5, method=["dior", "clay"]).hits
    # Several conditions, and several examples.
    more = engine.search(keys[:2], ["color", "shape"], 5, fuse=True, combine="any")
    assert len(more) == 5 and len(more[0].parts) == 4
    with pytest.raises(UsageError, match="--fuse takes all"):
        engine.search(keys[0], "color", 5, fuse=True, method="dior")


def test_the_command_line_says_what_answered(place: Path) -> None:
    key = cies.open(place).vectors("color").keys[0]
    asked = ["search", key, "-c", "color", "-m", "dior", "-m", "crl", "--json", "-g", str(place)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["query"]["method"] == "dior + crl"
    assert not wrong(document, documented("cies search --json"))
    wrong_method = CliRunner().invoke(app, [*asked[:4], "-m", "magic", "-g", str(place)])
    assert wrong_method.exit_code == 2 or isinstance(wrong_method.exception, UsageError)


def test_moved_vectors_are_kept_beside_a_large_gallery(
    engine: cies.Engine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the size on at which tables are cached; another list of words makes another view."""
    key = engine.vectors("color").keys[1]
    want = [(hit.key, hit.word) for hit in engine.search(key, "style", 9, method="clay")]
    monkeypatch.setattr("indexes.search.table_loader.CACHED_FROM", 10)
    fresh = cies.open(place)
    fresh.encoders.loaded += engine.encoders.loaded
    assert [(h.key, h.word) for h in fresh.search(key, "style", 9, method="clay")] == want
    table = fresh.table("style", "clay").table
    assert len(list((place / "indexes" / table).glob("view-*/header.json"))) == 1
    again = cies.open(place)
    assert [(h.key, h.word) for h in again.search(key, "style", 9, method="clay")] == want
    assert not again.encoders.loaded
    done = CliRunner().invoke(app, ["verify", "-g", str(place)])
    assert done.exit_code == 0, done.output
    words = ["conditions", "edit", "style", "--words", "flat, photo, sketch", "-g", str(place)]
    assert CliRunner().invoke(app, words).exit_code == 0
    edited = cies.open(place)
    edited.encoders.loaded += engine.encoders.loaded
    hits = edited.search(key, "style", 9, method="clay")
    assert {hit.word for hit in hits} <= {"flat", "photo", "sketch"}
    assert edited.table("style", "clay").table != table


def test_benches_print_documents(filled: Path) -> None:
    view = ["bench", "view", "--vectors", "300", "--dim", "16", "-m", "clay", "--json"]
    rerank = ["bench", "rerank", "-g", str(filled), "-c", "color", "--queries", "2", "--json"]
    for asked, name in ((view, "cies bench view --json"), (rerank, "cies bench rerank --json")):
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        assert not wrong(json.loads(done.stdout), documented(name))
    none = CliRunner().invoke(app, [*view[:-2], "magic"])
    assert isinstance(none.exception, UsageError)

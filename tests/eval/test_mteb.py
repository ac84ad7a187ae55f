"""Our encoders and tasks in mteb, whose figures equal ours.

mteb is not installed for the tests because of its size; ``pip install 'cies[mteb]'`` adds it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import published
from support.stand_in import StandIn

from eval.adapters.mteb_models import MtebModel
from eval.adapters.mteb_tasks import mteb_tasks, run_mteb
from eval.metrics.blocks import by_labels, by_value, itself, itself_and_alike, judge_all
from eval.metrics.names import metric
from eval.metrics.ranked import rank
from eval.protocols.data_folder import Expected
from eval.protocols.registry import find_benchmark
from eval.runs.abstention import AUROC
from eval.tasks import BenchmarkSource, Crop, LabelTask, QueryTask, TaskPart, TaskQuery
from indexes.errors import UsageError
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.base import Embeddings

SOURCE = BenchmarkSource("a test", "https://example.org", "MIT")


class WithTexts(StandIn):
    """Embeds a text as a picture whose pixels are its bytes."""

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        return self.embed([filled(text) for text in texts], conditions, words)


class Unlike(WithTexts):
    """Returns another vector at each call, because pictures of small data sets are equal."""

    def vector(self, image: Image.Image, phrase: str) -> np.ndarray:
        self.asked = getattr(self, "asked", 0) + 1
        return unit(np.random.default_rng(self.asked).normal(size=(1, 16)))[0]


def filled(text: str) -> Image.Image:
    return Image.frombytes("RGB", (1, len(text)), (text * 3).encode())


@pytest.fixture
def files(tmp_path: Path, random: np.random.Generator) -> dict[str, Path]:
    """40 small pictures, one of them with alpha and one grey, below two folders."""
    found = {}
    for number in range(40):
        name = f"{'ab'[number % 2]}/{number // 2}.png"
        mode = {3: "RGBA", 4: "L"}.get(number, "RGB")
        shape = (8, 9) if mode == "L" else (8, 9, len(mode))
        found[name] = tmp_path / name
        found[name].parent.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels, mode).save(found[name])
    return found


def vectors_of(encoder: StandIn, files: dict[str, Path], condition: str) -> np.ndarray:
    from ingest.read.images import load

    pictures = [load(path).image for path in files.values()]
    return encoder.encode(pictures, [Condition.parse(condition)])[:, 0]


def test_missing_mteb_is_one_sentence(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "mteb", None)
    task = LabelTask("t", SOURCE, files, {"color": dict.fromkeys(files, ("x",))})
    with pytest.raises(UsageError, match=r"pip install 'cies\[mteb\]'"):
        mteb_tasks(task)


def test_the_model_embeds_like_the_encoder(files: dict[str, Path]) -> None:
    """mteb's documented protocol: dictionaries of batches in, an array out."""

    class Metadata:
        name, prompt = "a task", None

    encoder, color = WithTexts(), Condition.parse("color")
    images = [Image.open(path) for path in files.values()]
    batches = [{"image": images[:30]}, {"image": images[30:]}]
    asked = {"task_metadata": Metadata, "hf_split": "test", "hf_subset": "default"}
    found = MtebModel(encoder, condition=color).encode(batches, **asked)
    assert np.array_equal(found, vectors_of(encoder, files, "color"))
    text = MtebModel(encoder, condition=color).encode([{"text": ["red", "blue"]}], **asked)
    both = MtebModel(encoder, condition=color).encode(
        [{"text": ["red", "blue"], "image": images[:2]}], **asked
    )
    assert np.allclose(both, unit(text + found[:2]))
    model = MtebModel(encoder)
    assert np.allclose(model.similarity(found[:3], found), found[:3] @ found.T)
    assert np.allclose(model.similarity_pairwise(found, found), 1)
    with pytest.raises(UsageError, match="has no condition"):
        model.encode(batches, **asked)
    with pytest.raises(UsageError, match="neither pictures nor texts"):
        MtebModel(encoder, condition=color).encode([{"audio": []}], **asked)


def test_label_tasks(files: dict[str, Path], tmp_path: Path, random: np.random.Generator) -> None:
    pytest.importorskip("mteb")
    values = {name: (str(random.integers(0, 5)),) for name in files}
    some = {name: ("x", "y") if n % 3 else ("y",) for n, name in enumerate(files) if n < 30}
    task = LabelTask("small", SOURCE, files, {"color": values, "body shape": some})
    tasks = mteb_tasks(task)
    assert [one.metadata.name for one in tasks] == ["small-color", "small-body_shape"]
    encoder = StandIn()
    result = run_mteb(MtebModel(encoder), tasks, tmp_path / "results", batch_size=7)
    for found, (condition, labels) in zip(result.task_results, task.labels.items(), strict=True):
        vectors = vectors_of(encoder, {name: files[name] for name in labels}, condition)
        right = by_labels(list(labels.values()), list(labels.values()))
        names = ("MAP@R", "P@1", "R-precision", "MRR@10", "nDCG@10")
        ours = judge_all(vectors, vectors, {"": right}, list(map(metric, names)), itself)[""]
        scores = found.scores["test"][0]
        for name in names[:3]:
            assert scores[name] == pytest.approx(ours.values[name].mean(), abs=1e-5)
        assert scores["main_score"] == scores["MAP@R"]
        # mteb's own figures of the same answers, through trec_eval.
        assert scores["mrr_at_10"] == pytest.approx(ours.values["MRR@10"].mean(), abs=1e-4)
        assert scores["ndcg_at_10"] == pytest.approx(ours.values["nDCG@10"].mean(), abs=1e-4)
    written = sorted((tmp_path / "results").rglob("small-*.json"))
    assert [json.loads(path.read_text())["task_name"] for path in written] == [
        "small-body_shape",
        "small-color",
    ]


def test_other_views_of_an_object_are_not_ranked(
    files: dict[str, Path], tmp_path: Path, random: np.random.Generator
) -> None:
    pytest.importorskip("mteb")
    values = random.integers(0, 4, 40)
    things = random.integers(-1, 12, 40)
    named = {name: (str(value),) for name, value in zip(files, values, strict=True)}
    views = {name: str(t) for name, t in zip(files, things, strict=True) if t >= 0}
    vectors, right = vectors_of(StandIn(), files, "color"), by_value(values)
    whole = LabelTask("whole", SOURCE, files, {"color": named}, views=views)
    # The first five pictures are no part of the gallery, the others not ranked for themselves.
    cut = LabelTask("cut", SOURCE, files, {"color": named}, None, tuple(files)[5:])
    result = run_mteb(MtebModel(StandIn()), [*mteb_tasks(whole), *mteb_tasks(cut)], tmp_path)
    found = [one.scores["test"][0]["MAP@R"] for one in result.task_results]

    def shown(query: int) -> np.ndarray:
        return right(query)[right(query) >= 5] - 5

    def out(query: int) -> np.ndarray:
        return np.array([query - 5] if query >= 5 else [], dtype=np.int64)

    measured = [metric("MAP@R")]
    ours = [
        judge_all(vectors, vectors, {"": right}, measured, itself_and_alike(things))[""],
        judge_all(vectors, vectors[5:], {"": shown}, measured, out)[""],
    ]
    assert found == pytest.approx([one.values["MAP@R"].mean() for one in ours], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "build", "options"),
    [
        ("clevr4", published.clevr4, {}),
        ("uned-met", lambda folder: published.uned(folder, "met", True), {}),
        ("genecis", published.genecis, {}),
        ("circo", published.circo, {}),
        ("cirr", published.cirr, {}),
        ("fashioniq", published.fashioniq, {}),
        ("inquire", published.inquire, {}),
        ("inquire-rerank", published.inquire_rerank, {}),
        ("sorce", published.sorce, {}),
    ],
)
def test_published_benchmarks_run_in_mteb(name, build, options, tmp_path: Path) -> None:
    """Our hit rates equal mteb's of the same answers."""
    pytest.importorskip("mteb")
    task = find_benchmark(name).load(build(tmp_path / "data"), expected=Expected(), **options)
    model = MtebModel(Unlike(), condition=Condition.parse("color"))
    for found in run_mteb(model, mteb_tasks(task), tmp_path / "results").task_results:
        for scores in found.scores["test"]:
            assert 0 <= scores["main_score"] <= 1
            for k in (1, 2, 3, 5, 10):
                if f"R@{k}" in scores:
                    theirs = scores[f"hit_rate_at_{k}"]
                    assert scores[f"R@{k}"] == pytest.approx(theirs, abs=1e-4)


def test_query_tasks(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("mteb")
    from ingest.read.images import load

    names = list(files)
    crops = {"part": Crop((1, 1, 5, 6))}
    images = {**files, "part": files[names[0]]}
    parts = (
        # Own galleries, as of GeneCIS.
        TaskPart(
            "own",
            tuple(
                TaskQuery(
                    f"q{i}", names[i], "with a star", {names[i + 1]: 1}, tuple(names[i + 1 : i + 9])
                )
                for i in range(10)
            ),
            (),
        ),
        # One gallery, the reference left out, as of CIRR.
        TaskPart(
            "one",
            (TaskQuery("r0", names[5], "smaller", {names[7]: 1, "part": 2}, None, (names[5],)),),
            (*names[:12], "part"),
        ),
    )
    task = QueryTask("composed", SOURCE, images, parts, ("R@1", "mAP@5", "subset recall@1"), crops)
    encoder = WithTexts()

    def read(ids: Sequence[str]) -> list[Image.Image]:
        return [load(images[name]).image.crop(crops[name].box) for name in ids]

    color = Condition.parse("color")
    model = MtebModel(encoder, condition=color)
    (made,) = mteb_tasks(task)
    found = run_mteb(model, [made], tmp_path).task_results[0].scores["test"]
    everything = vectors_of(encoder, files, "color")
    all_vectors = dict(zip(names, everything, strict=True))
    all_vectors["part"] = encoder.encode(read(["part"]), [color])[0, 0]
    by_subset = {scores["hf_subset"]: scores for scores in found}
    for part in parts:
        rows, gains = [], []
        for query in part.queries:
            text = encoder.encode_text([query.text], [color])[0, 0]
            asked = unit((all_vectors[query.image] + text)[None])[0]
            ranked = [n for n in query.gallery or part.gallery if n not in query.exclude]
            rows.append([all_vectors[name] @ asked for name in ranked])
            gains.append([query.relevant.get(name, 0) for name in ranked])
        for name in ("R@1", "mAP@5"):
            ours = metric(name)(rank(rows, gains)).mean()
            assert by_subset[part.name][name] == pytest.approx(ours, abs=1e-5)
    assert by_subset["own"]["main_score"] == by_subset["own"]["R@1"]


def test_tasks_that_mteb_cannot_hold_are_refused(files: dict[str, Path]) -> None:
    pytest.importorskip("mteb")
    names = list(files)
    held_back = QueryTask(
        "t",
        SOURCE,
        files,
        (TaskPart("", (TaskQuery("1", names[0], "x"),), tuple(names)),),
        ("R@1",),
    )
    with pytest.raises(UsageError, match="no right answers"):
        mteb_tasks(held_back)
    labels = dict.fromkeys(files, ("x",))
    sure = LabelTask("t", SOURCE, files, {"c": labels}, headline=AUROC)
    with pytest.raises(UsageError, match="is not a ranking"):
        mteb_tasks(sure)

"""Our tasks as tasks of mteb, for any mteb model, with results in mteb's format.

In addition to mteb's scores, which break ties by order, each result has our metrics under our
names, with ties in expectation.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from eval.metrics.names import metric
from eval.metrics.ranked import by_position, rank
from eval.runs.abstention import AUROC, SHARED_NEIGHBOURS
from eval.runs.pictures import loader
from eval.runs.task_files import task_to_json
from eval.tasks import LabelTask, QueryTask, Task, TaskQuery
from indexes.errors import UsageError

_SPLIT = "test"
_LABEL_METRICS = ("MAP@R", "P@1", "R-precision")


def mteb_tasks(task: Task) -> list[Any]:
    """Return tasks that ``mteb.evaluate`` takes: ``mteb.abstasks.AbsTaskRetrieval``.

    A :class:`LabelTask` gives one task for each condition, picture to picture, with the condition
    as the prompt. A :class:`QueryTask` gives one task, picture and text to picture, with its parts
    as subsets. mteb's candidate lists leave out what a query does not rank. Crops are held in
    memory as PNG.

    A query whose text is a condition becomes a composed query, because mteb embeds a candidate
    once and not under each query's condition.

    Args:
        task: the task with its answers.

    Raises:
        UsageError: if mteb is missing, answers are held back, or mteb's format cannot hold the
            task.
        CiesError: if a picture that has to be cropped cannot be read.
    """
    if isinstance(task, LabelTask):
        return [_label_task(task, condition) for condition in task.labels]
    return [_query_task(task)]


def run_mteb(model: Any, tasks: Sequence[Any], folder: Path, batch_size: int = 32) -> Any:
    """Evaluate a model; existing results in the folder are reused.

    Args:
        model: such as :class:`eval.adapters.mteb_models.MtebModel`.
        tasks: tasks from :func:`mteb_tasks`, or mteb's own.
        folder: the folder of the results, in mteb's format.
        batch_size: pictures or texts in a batch.

    Returns:
        ``mteb.results.ModelResult``.

    Raises:
        UsageError: if mteb is missing.
    """
    mteb = _mteb()
    return mteb.evaluate(
        model,
        tasks,
        cache=mteb.ResultCache(cache_path=folder),
        encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
        show_progress_bar=False,
        co2_tracker=False,
    )


def _mteb() -> Any:
    try:
        import mteb
    except ImportError as error:
        raise UsageError("This needs mteb; install it with `pip install 'cies[mteb]'`.") from error
    return mteb


@cache
def _task_class() -> Any:
    """Return the class of our tasks; it derives from mteb's, so mteb is imported first."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    class CiesTask(AbsTaskRetrieval):  # type: ignore[misc]
        """A retrieval task over data on this machine."""

        k_values = (1, 2, 3, 5, 10, 50, 100)
        _support_cross_encoder = False
        dataset: Any = None

        def __init__(
            self,
            data: Callable[[], Any],
            metrics: Sequence[str],
            top: int,
            leave_out_query: bool = False,
            first_wins: bool = False,
        ) -> None:
            super().__init__()
            self._data, self._metrics, self._top_k = data, metrics, top
            self.ignore_identical_ids, self._first_wins = leave_out_query, first_wins

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            """Make the data sets, if they are not made yet."""
            self.dataset = self.dataset or self._data()
            self.data_loaded = True

        def task_specific_scores(
            self,
            scores: Any,
            qrels: Mapping[str, Mapping[str, float]],
            results: Mapping[str, Mapping[str, float]],
            hf_split: str,
            hf_subset: str,
        ) -> dict[str, float]:
            """Return our metrics of the same answers."""
            split = self.dataset[hf_subset][hf_split]
            gallery, candidates = list(split["corpus"]["id"]), split["top_ranked"]
            position = _positions(gallery)
            rows, gains, all_gains, others = [], [], [], []
            for query, right in qrels.items():
                found = dict(results[query])
                if self.ignore_identical_ids:
                    found.pop(query, None)
                if self._first_wins:
                    order = position if candidates is None else _positions(candidates[query])
                    names = sorted(found, key=order.__getitem__)
                    found = dict(zip(names, by_position([found[n] for n in names]), strict=True))
                rows.append(list(found.values()))
                gains.append([right.get(name, 0) for name in found])
                all_gains.append([gain for gain in right.values() if gain > 0])
                ranked = len(gallery) if candidates is None else len(candidates[query])
                others.append(ranked - (self.ignore_identical_ids and query in position))
            answers = rank(rows, gains, all_gains, others)
            return {name: float(metric(name)(answers).mean()) for name in self._metrics}

    return CiesTask


def _positions(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _label_task(task: LabelTask, condition: str) -> Any:
    if task.headline == AUROC:
        raise UsageError(f"{task.name} is not a ranking, which mteb's format cannot hold.")
    gallery = task.known_gallery(condition)
    right = {
        query: dict.fromkeys(sorted(names), 1) for query, names in task.right_answers(condition)
    }
    _check_answers(task.name, right)
    candidates = None
    if task.views:
        candidates = {q: [name for name in gallery if task.is_ranked(q, name)] for q in right}

    def data() -> Any:
        split = {
            "corpus": _dataset(task, gallery, None),
            "queries": _dataset(task, list(right), None),
            "relevant_docs": right,
            "top_ranked": candidates,
        }
        return {"default": {_SPLIT: split}}

    # Enough places for MAP@R, and one more for the query itself.
    top = min(len(gallery), max(1000, *map(len, right.values())) + 1)
    published = [name for name in (task.headline, *task.metrics) if name != SHARED_NEIGHBOURS]
    metrics = [*dict.fromkeys([*published, *_LABEL_METRICS])]
    metadata = _metadata(
        task,
        name=f"{task.name}-{condition}".replace(" ", "_").replace("/", "_"),
        about=f"Pictures similar in {condition}, {task.source.title}.",
        category="i2i",
        prompt=condition,
        languages=["eng-Latn"],
        headline=metrics[0],
        content=repr(right),
    )
    return _make_task(metadata, data, metrics, top, leave_out_query=not task.views)


def _query_task(task: QueryTask) -> Any:
    queries = [query for part in task.parts for query in part.queries]
    _check_answers(task.name, [query for query in queries if query.relevant])
    texts, pictures = any(q.text for q in queries), any(q.image for q in queries)
    if texts and pictures and not all(q.text and q.image for q in queries):
        raise UsageError(f"{task.name} mixes kinds of queries, which mteb's format cannot hold.")
    if any(q.rewordings for q in queries):
        raise UsageError(
            f"{task.name} has several wordings of a query, which mteb's format cannot hold; load "
            "it with other captions."
        )
    category = ("it" if pictures else "t") if texts else "i"

    def split(part_queries: Sequence[TaskQuery], gallery: Sequence[str]) -> Any:
        answered = [query for query in part_queries if query.relevant]
        candidates, corpus = None, gallery
        if any(query.gallery is not None or query.exclude for query in answered):
            candidates = {query.id: _candidates(query, gallery) for query in answered}
            corpus = list(dict.fromkeys(name for ids in candidates.values() for name in ids))
        return {
            "corpus": _dataset(task, corpus, None),
            "queries": _dataset(
                task,
                [query.image for query in answered] if pictures else None,
                [query.text for query in answered] if texts else None,
                [query.id for query in answered],
            ),
            "relevant_docs": {query.id: _whole_gains(task, query) for query in answered},
            "top_ranked": candidates,
        }

    names = {part.name: part.name or "default" for part in task.parts}

    def data() -> Any:
        return {
            names[part.name]: {_SPLIT: split(part.queries, part.gallery)} for part in task.parts
        }

    languages: Any = ["eng-Latn"]
    if len(task.parts) > 1 or task.parts[0].name:
        languages = {name: ["eng-Latn"] for name in names.values()}
    metadata = _metadata(
        task,
        name=task.name,
        about=f"Composed queries, {task.source.title}.",
        category=f"{category}2i",
        prompt=None,
        languages=languages,
        headline=task.metrics[0],
        content=json.dumps(task_to_json(task)["parts"], sort_keys=True),
    )
    # Subset metrics need galleries that mteb's format cannot hold.
    metrics = [name for name in task.metrics if not name.startswith("subset ")]
    first_wins = task.ties == "position"
    return _make_task(metadata, data, metrics, len(_gallery_of(task)), first_wins=first_wins)


def _gallery_of(task: QueryTask) -> set[str]:
    pictures = {name for part in task.parts for name in part.gallery}
    return pictures.union(*(q.gallery or () for part in task.parts for q in part.queries))


def _candidates(query: TaskQuery, gallery: Sequence[str]) -> list[str]:
    out = set(query.exclude)
    return [name for name in query.gallery or gallery if name not in out]


def _whole_gains(task: QueryTask, query: TaskQuery) -> dict[str, int]:
    if any(gain != int(gain) for gain in query.relevant.values()):
        raise UsageError(f"{task.name}: query {query.id} has gains that mteb cannot hold.")
    return {name: int(gain) for name, gain in query.relevant.items()}


def _check_answers(name: str, right: Sequence[Any] | Mapping[str, Any]) -> None:
    if not right:
        raise UsageError(f"{name} has no right answers here to measure by.")


def _make_task(
    metadata: Any, data: Callable[[], Any], metrics: Sequence[str], top: int, **options: bool
) -> Any:
    # mteb reads the metadata from the class.
    made = type("CiesTask", (_task_class(),), {"metadata": metadata})
    return made(data, metrics, top, **options)


def _metadata(
    task: Task,
    name: str,
    about: str,
    category: str,
    prompt: str | None,
    languages: Any,
    headline: str,
    content: str,
) -> Any:
    _mteb()
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        dataset={
            "path": f"cies/{task.name}",
            "revision": hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest(),
        },
        name=name,
        description=about,
        prompt=prompt,
        type="Any2AnyRetrieval",
        modalities=["image", "text"] if "t" in category.split("2")[0] else ["image"],
        category=category,
        reference=task.source.link or None,
        eval_splits=[_SPLIT],
        eval_langs=languages,
        main_score=headline,
    )


def _dataset(
    task: Task,
    pictures: Sequence[str] | None,
    texts: Sequence[str] | None,
    ids: Sequence[str] | None = None,
) -> Any:
    """Return a ``datasets.Dataset`` of ids with pictures, texts, or both."""
    import datasets

    crops = task.crops if isinstance(task, QueryTask) else {}
    read = loader(task.images, crops, None)

    features: dict[str, Any] = {"id": datasets.Value("string")}
    columns: dict[str, Any] = {"id": list(ids if ids is not None else pictures or [])}
    if pictures is not None:
        features["image"] = datasets.Image()
        columns["image"] = [
            {"bytes": _png(read([name])[0])} if name in crops else {"path": str(task.images[name])}
            for name in pictures
        ]
    if texts is not None:
        features["text"] = datasets.Value("string")
        columns["text"] = list(texts)
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def _png(image: Image.Image) -> bytes:
    stored = io.BytesIO()
    image.save(stored, "PNG", compress_level=1)
    return stored.getvalue()

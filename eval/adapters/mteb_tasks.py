"""Our tasks as tasks of mteb, for any model of it, with results in its format.

Beside mteb's own scores, which break ties by order, each result holds our metrics under our
names, with ties in expectation.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from eval.metrics.names import metric
from eval.metrics.ranked import by_position, rank
from eval.runs.abstention import AUROC, SHARED_NEIGHBOURS
from eval.runs.pictures import loader
from eval.tasks import LabelTask, QueryTask, Task, TaskQuery
from indexes.errors import UsageError

_SPLIT = "test"
_LABEL_METRICS = ("MAP@R", "P@1", "R-precision")


def mteb_tasks(task: Task) -> list[Any]:
    """Tasks that ``mteb.evaluate`` takes: ``mteb.abstasks.AbsTaskRetrieval``.

    A :class:`LabelTask` makes one for each condition, picture to picture, with the condition as
    the task's prompt. A :class:`QueryTask` makes one, picture and text to picture, with its parts
    as subsets. What a question does not rank is kept by mteb's lists of candidates. Parts of
    pictures are kept in memory as PNG.

    A question whose text is a condition is a composed one there, because mteb embeds a candidate
    once, and not anew under each question's condition.

    Args:
        task: with its answers.

    Raises:
        UsageError: if mteb is missing, answers are held back, or mteb's form cannot hold the task.
        CiesError: if a picture that is to be cut cannot be read.
    """
    if isinstance(task, LabelTask):
        return [_label_task(task, condition) for condition in task.labels]
    return [_query_task(task)]


def run_mteb(model: Any, tasks: Sequence[Any], folder: Path, batch_size: int = 32) -> Any:
    """Evaluate, with results in mteb's format below a folder, which it reuses where they are there.

    Args:
        model: such as :class:`eval.adapters.mteb_models.MtebModel`.
        tasks: from :func:`mteb_tasks`, or mteb's own.
        folder: for the results.
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
    """The class of our tasks there, made once mteb is there to derive from."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    class CiesTask(AbsTaskRetrieval):  # type: ignore[misc]
        """A retrieval task whose data are at hand."""

        k_values = (1, 2, 3, 5, 10, 50, 100)
        _support_cross_encoder = False
        dataset: Any = None

        def __init__(
            self,
            data: Callable[[], Any],
            own: Sequence[str],
            top: int,
            itself: bool = False,
            first_wins: bool = False,
        ) -> None:
            super().__init__()
            self._data, self._own, self._top_k = data, own, top
            self.ignore_identical_ids, self._first_wins = itself, first_wins

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            """Read what the task is made of, unless it is there."""
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
            """Our metrics, of the same answers."""
            split = self.dataset[hf_subset][hf_split]
            gallery, candidates = list(split["corpus"]["id"]), split["top_ranked"]
            place = _places(gallery)
            rows, gains, all_gains, others = [], [], [], []
            for query, right in qrels.items():
                found = dict(results[query])
                if self.ignore_identical_ids:
                    found.pop(query, None)
                if self._first_wins:
                    own = place if candidates is None else _places(candidates[query])
                    names = sorted(found, key=own.__getitem__)
                    found = dict(zip(names, by_position([found[n] for n in names]), strict=True))
                rows.append(list(found.values()))
                gains.append([right.get(name, 0) for name in found])
                all_gains.append([gain for gain in right.values() if gain > 0])
                ranked = len(gallery) if candidates is None else len(candidates[query])
                others.append(ranked - (self.ignore_identical_ids and query in place))
            answers = rank(rows, gains, all_gains, others)
            return {name: float(metric(name)(answers).mean()) for name in self._own}

    return CiesTask


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _label_task(task: LabelTask, condition: str) -> Any:
    if task.headline == AUROC:
        raise UsageError(f"{task.name} is no ranking, which is all that mteb's form can hold.")
    labels = {name: set(own) for name, own in task.labels[condition].items()}
    queries = [name for name in task.queries or task.images if name in labels]
    gallery = [name for name in task.gallery or task.images if name in labels]
    bearers: dict[str, list[str]] = {}
    for name in gallery:
        for label in labels[name]:
            bearers.setdefault(label, []).append(name)
    views = task.views

    def ranked(query: str, name: str) -> bool:
        return name != query and (query not in views or views.get(name) != views[query])

    right = {}
    for query in queries:
        alike = {name for label in labels[query] for name in bearers.get(label, ())}
        if found := {name: 1 for name in sorted(alike) if ranked(query, name)}:
            right[query] = found
    _some(task.name, right)
    candidates = None
    if views:
        candidates = {q: [name for name in gallery if ranked(q, name)] for q in right}

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
    own = [*dict.fromkeys([*published, *_LABEL_METRICS])]
    about = f"Pictures alike in {condition}, {task.source.title}."
    name = f"{task.name}-{condition}".replace(" ", "_").replace("/", "_")
    made = _metadata(task, name, about, "i2i", condition, ["eng-Latn"], own[0], repr(right))
    return _made(made, data, own, top, itself=not views)


def _query_task(task: QueryTask) -> Any:
    queries = [query for part in task.parts for query in part.queries]
    _some(task.name, [query for query in queries if query.relevant])
    texts, pictures = any(q.text for q in queries), any(q.image for q in queries)
    if texts and pictures and not all(q.text and q.image for q in queries):
        raise UsageError(f"{task.name} mixes kinds of questions, which mteb cannot say.")
    if any(q.rewordings for q in queries):
        raise UsageError(
            f"{task.name} asks each question in several wordings, which mteb cannot say; load it "
            "with another joining."
        )
    category = ("it" if pictures else "t") if texts else "i"

    def split(part_queries: Sequence[TaskQuery], gallery: Sequence[str]) -> Any:
        asked = [query for query in part_queries if query.relevant]
        apart = any(query.gallery is not None or query.exclude for query in asked)
        candidates = {query.id: _candidates(query, gallery) for query in asked} if apart else None
        corpus = gallery
        if candidates is not None:
            corpus = list(dict.fromkeys(name for own in candidates.values() for name in own))
        return {
            "corpus": _dataset(task, corpus, None),
            "queries": _dataset(
                task,
                [query.image for query in asked] if pictures else None,
                [query.text for query in asked] if texts else None,
                [query.id for query in asked],
            ),
            "relevant_docs": {query.id: _whole(task, query) for query in asked},
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
    about = f"Composed questions, {task.source.title}."
    made = _metadata(
        task, task.name, about, f"{category}2i", None, languages, task.metrics[0], repr(task.parts)
    )
    # Subset figures need galleries that mteb's form has no place for.
    own = [name for name in task.metrics if not name.startswith("subset ")]
    return _made(made, data, own, len(_all_of(task)), first_wins=task.ties == "position")


def _all_of(task: QueryTask) -> set[str]:
    pictures = {name for part in task.parts for name in part.gallery}
    return pictures.union(*(q.gallery or () for part in task.parts for q in part.queries))


def _candidates(query: TaskQuery, gallery: Sequence[str]) -> list[str]:
    out = set(query.exclude)
    return [name for name in query.gallery or gallery if name not in out]


def _whole(task: QueryTask, query: TaskQuery) -> dict[str, int]:
    if any(gain != int(gain) for gain in query.relevant.values()):
        raise UsageError(f"{task.name}: query {query.id} has gains that mteb cannot hold.")
    return {name: int(gain) for name, gain in query.relevant.items()}


def _some(name: str, right: Sequence[Any] | Mapping[str, Any]) -> None:
    if not right:
        raise UsageError(f"{name} has no right answers here to measure by.")


def _made(metadata: Any, data: Any, own: Sequence[str], top: int, **more: bool) -> Any:
    # mteb looks for the metadata on the class.
    made = type("CiesTask", (_task_class(),), {"metadata": metadata})
    return made(data, own, top, **more)


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
    """A ``datasets.Dataset`` of ids with pictures, texts, or both."""
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

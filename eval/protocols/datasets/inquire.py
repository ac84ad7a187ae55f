"""INQUIRE (NeurIPS 2024): experts' text queries over 5,000,000 pictures of nature."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.protocols.task_parts import build_part
from eval.tasks import BenchmarkSource, QueryTask, Task, TaskQuery
from indexes.files import write_atomic

FULL = BenchmarkSource(
    title="INQUIRE, fullrank (NeurIPS 2024 Datasets and Benchmarks)",
    link="https://github.com/inquire-benchmark/INQUIRE",
    licence="repository MIT; each picture under its own Creative Commons licence",
    note="questions and answers in data/inquire there; pictures of iNat24, 441 GB, linked there",
)
RERANK = BenchmarkSource(
    title="INQUIRE, rerank (NeurIPS 2024 Datasets and Benchmarks)",
    link="https://huggingface.co/datasets/evendrow/INQUIRE-Rerank",
    licence="card: CC BY-NC 4.0 (second hand); each picture under its own Creative Commons licence",
    note="its Parquet files, about 1.9 GB",
)

#: Folder beside the Parquet files that their pictures are written to, once.
_WRITTEN = "pictures"


class _LazyPaths(Mapping[str, Path]):
    """Ids of millions of pictures below a folder; a path is made when it is looked up."""

    def __init__(self, folder: Path, ids: Iterable[str]) -> None:
        self._folder = folder
        self._ids = dict.fromkeys(ids)

    def __getitem__(self, key: str) -> Path:
        if key not in self._ids:
            raise KeyError(key)
        return self._folder / key

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __deepcopy__(self, memo: object) -> _LazyPaths:
        return self  # immutable


def _read_full(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    split = options["split"]
    name = f"inquire_queries_{split}.csv"
    path = data.find(f"inquire/{name}", name)
    rows = data.rows(path, ("query_id", "query_text"), published=name)
    data.check_count(f"{split} questions", len(rows))
    answers_path = data.find("inquire/inquire_annotations.csv", "inquire_annotations.csv")
    right: dict[str, list[Path]] = {}
    train = data.find("inat24/train", "train")
    for row in data.rows(answers_path, ("query_id", "image_path")):
        place = data.path_below(train.parent, row["image_path"], answers_path)
        right.setdefault(row["query_id"], []).append(place)
    root = data.id_of(train)
    pictures = _LazyPaths(
        data.folder,
        (
            f"{root}/{folder.name}/{name}"
            for folder in sorted(train.iterdir())
            if folder.is_dir()
            for name in sorted(os.listdir(folder))  # noqa: PTH208 - 5,000,000 of them
        ),
    )
    data.check_count("pictures", len(pictures))
    queries = []
    for row in rows:
        files = right.get(row["query_id"], [])
        if not files:
            raise data.error(f"{answers_path} has no answer for question {row['query_id']}")
        files = list(dict.fromkeys(files))  # the official code makes a set of them
        if data.partial:
            # Answers that are not in a partial gallery cannot be found, so they are left out.
            files = [file for file in files if data.id_of(file) in pictures]
        if files:
            relevant = {data.id_of(file): 1.0 for file in files}
            queries.append(TaskQuery(row["query_id"], "", row["query_text"], relevant))
    if len(queries) < len(rows):
        data.check_count(f"{split} questions with answers in the gallery", len(queries), len(rows))
    part = build_part(data, answers_path, "", queries, tuple(pictures), pictures)
    return QueryTask(
        data.task_name(f"inquire-fullrank-{split}"),
        data.source,
        pictures,
        (part,),
        ("AP@50", "nDCG@50", "MRR@50"),
        notes=tuple(data.notes),
        files=data.files,
    )


def _read_rerank(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    import pyarrow.parquet as parquet

    split = options["split"]
    long = "validation" if split == "val" else split
    tables = sorted(
        [*data.folder.glob(f"data/{long}-*.parquet"), *data.folder.glob(f"{long}-*.parquet")]
    )
    if not tables:
        raise data.error(f"data/{long}-*.parquet is not in {data.folder}")
    target = data.folder / _WRITTEN
    target.mkdir(exist_ok=True)
    written = {entry.name for entry in target.iterdir()}
    candidates: dict[str, dict[str, bool]] = {}
    files: dict[str, Path] = {}
    for table in tables:
        try:
            opened = parquet.ParquetFile(table)
            missing = {"query", "inat24_image_id", "relevant", "image"} - set(
                opened.schema_arrow.names
            )
            if missing:
                raise data.error(f"{table} has no column '{min(missing)}'")
            for batch in opened.iter_batches(64):
                for row in batch.to_pylist():
                    name = f"{row['inat24_image_id']}.jpg"
                    file = target / name
                    if name not in written:
                        # Atomic, so that reading can be continued after an interruption.
                        write_atomic(file, row["image"]["bytes"], durable=False)
                        written.add(name)
                    key = data.id_of(file)
                    files[key] = file
                    of_query = candidates.setdefault(str(row["query"]), {})
                    if key in of_query:
                        raise data.error(f"{table} has {key} twice for '{row['query']}'")
                    of_query[key] = bool(row["relevant"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise data.error(f"{table} is cut short or damaged ({error})") from error
    queries = []
    for number, (text, of_query) in enumerate(candidates.items()):
        data.check_count("candidates of a question", len(of_query))
        relevant = {key: 1.0 for key, right in of_query.items() if right}
        if relevant:
            queries.append(TaskQuery(str(number), "", text, relevant, gallery=tuple(of_query)))
    if len(queries) < len(candidates):
        data.notes.append(
            f"{len(candidates) - len(queries)} questions have no right answer among their "
            "candidates and are left out."
        )
    data.check_count(f"{split} questions", len(candidates))
    return QueryTask(
        data.task_name(f"inquire-rerank-{split}"),
        data.source,
        files,
        (build_part(data, tables[0].parent, "", queries, tuple(files), files),),
        ("AP@100", "nDCG@100", "MRR@100"),
        notes=tuple(data.notes),
        files=data.files,
    )


_SPLIT = ProtocolOption("split", "test, as the official code takes, or val", ("test", "val"))

PROTOCOLS = (
    Protocol(
        name="inquire",
        about="experts' questions in words, all pictures ranked (5,000,000)",
        source=FULL,
        files=(
            "inquire/inquire_queries_{val,test}.csv",
            "inquire/inquire_annotations.csv",
            "inat24/train/SPECIES/NAME.jpg",
        ),
        reader=_read_full,
        options=(_SPLIT,),
        expected=Expected(
            {"val questions": 50, "test questions": 200, "pictures": 5_000_000},
            {
                "inquire_queries_val.csv": (
                    "fdd47796521c584891d1a1d01f9b04697e1b386bbcc9b77696bedeaf77780650"
                ),
                "inquire_queries_test.csv": (
                    "06989b5be5a3ef4496fb7d59193bdf1960360920b03035b42cf1a1ada8c7b2db"
                ),
            },
        ),
    ),
    Protocol(
        name="inquire-rerank",
        about="the same questions, each with 100 candidates that a CLIP ViT-H found",
        source=RERANK,
        files=("data/{validation,test}-*.parquet; pictures are written out beside them once",),
        reader=_read_rerank,
        options=(_SPLIT,),
        expected=Expected({"candidates of a question": 100}),
    ),
)

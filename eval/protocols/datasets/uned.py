"""The eight domains of UnED (Universal Image Embeddings, ICCV 2023), which DIOR uses too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.protocols.value_types import LABEL, NAME, either, list_of
from eval.tasks import BenchmarkSource, LabelTask, Task

SOURCE = BenchmarkSource(
    title="UnED, Towards Universal Image Embeddings (ICCV 2023)",
    link="https://cmp.felk.cvut.cz/univ_emb/",
    licence="none for the repository; pictures under the terms of eight data sets, mostly "
    "research only",
    note="info_files.zip for the lists; pictures from each data set's own site",
)

#: Domain to its condition and its counts. UnED names no conditions: these are ours, except
#: ``car model``, which is DIOR's.
_DOMAINS: Mapping[str, tuple[str, dict[str, int]]] = {
    "cars": ("car model", {"test pictures": 8_131}),
    "sop": ("product", {"test pictures": 60_502}),
    "inshop": ("clothing item", {"test pictures": 14_218, "index pictures": 12_612}),
    "inat": ("species", {"test pictures": 136_093}),
    "met": ("artwork", {"test pictures": 1_003, "index pictures": 397_121}),
    "gldv2": ("landmark", {"test pictures": 1_129, "index pictures": 761_757}),
    "food2k": ("dish", {"test pictures": 9_979}),
    "rp2k": ("product", {"test pictures": 10_931}),
}


def read_list(
    data: BenchmarkFolder, domain: str, split: str
) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Read one of UnED's lists: picture's id to its file and its labels.

    Raises:
        DataError: if the list is missing, damaged, or not as published.
    """
    path = data.find(f"info_files/{domain}/{split}.json", f"{domain}/{split}.json")
    classes = either(LABEL, list_of(LABEL))
    entries = data.records(path, {"path": NAME, "class_id": classes})
    data.check_unique("path", (entry["path"] for entry in entries), path)
    data.check_count(f"{split} pictures", len(entries))
    find = _finder(data, domain, [entry["path"] for entry in entries], path)
    found = {}
    for number, entry in enumerate(entries):
        labels = entry["class_id"] if isinstance(entry["class_id"], list) else [entry["class_id"]]
        if not labels:
            raise data.error(f"{path}, entry {number} has no label")
        file = find(entry["path"])
        key = data.id_of(file)
        found[key] = (_as_unpacked(file, key), tuple(str(label) for label in labels))
    return found


def _finder(
    data: BenchmarkFolder, domain: str, paths: Sequence[str], where: Path
) -> Callable[[str], Path]:
    """Return a function from a listed path to its file.

    Files are below ``images``, or, as DIOR's code wants them, all in one folder without subfolders
    and named by the last parts of their paths.

    Raises:
        DataError: if they are in one folder, and two paths have the same last part.
    """
    flat = None
    if not (data.folder / "images").is_dir():
        flat = data.flat_folder(*_FLAT.get(domain, (domain,)))
    if flat is None:
        return lambda path: data.path_below(data.folder / "images", path, where)
    root = flat
    data.check_unique("file name", (PurePosixPath(path).name for path in paths), where)
    return lambda path: data.path_below(root, PurePosixPath(path).name, where)


#: Domain to the names of a folder of its pictures, where these are not the domain's.
_FLAT = {"cars": ("cars196", "cars")}


def _as_unpacked(path: Path, key: str) -> Path:
    """Return the file, or the file that some archives of RP2K unpack in its place.

    These archives write a character beyond ASCII as ``#U`` and its code point.
    """
    if key.isascii() or path.exists():
        return path
    written = "".join(c if c.isascii() else f"#U{ord(c):04x}" for c in path.name)
    return path.with_name(written) if path.with_name(written).exists() else path


def _read(domain: str, data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    condition, _ = _DOMAINS[domain]
    queries = read_list(data, domain, "test")
    indexed = options.get("gallery", "test") == "index"
    gallery = read_list(data, domain, "index") if indexed else queries
    both = {**gallery, **queries}
    present = data.existing_pictures({key: path for key, (path, _) in both.items()})
    if indexed and not {label for key in gallery for label in gallery[key][1]} & {
        label for key in queries for label in queries[key][1]
    }:
        raise data.error("no label of test.json is in index.json")
    name = f"uned-{domain}"
    return LabelTask(
        data.task_name(name if indexed or not options else f"{name}-against-test"),
        data.source,
        present,
        {condition: {key: both[key][1] for key in present}},
        queries=tuple(key for key in queries if key in present) if indexed else None,
        gallery=tuple(key for key in gallery if key in present) if indexed else None,
        headline="R@1",
        metrics=("mMP@5",),
        notes=tuple(data.notes),
        files=data.files,
    )


def _protocol(domain: str) -> Protocol:
    condition, counts = _DOMAINS[domain]
    indexed = "index pictures" in counts
    files = [
        f"info_files/{domain}/test.json",
        f"images/PATH as the lists name them, or {domain}/NAME without folders",
    ]
    if indexed:
        files.insert(1, f"info_files/{domain}/index.json")
    return Protocol(
        name=f"uned-{domain}",
        about=f"{condition} in {counts['test pictures']:,} pictures"
        + (
            f", found among {counts['index pictures']:,} others"
            if indexed
            else ", each among the others"
        ),
        source=SOURCE,
        files=tuple(files),
        reader=partial(_read, domain),
        options=(
            ProtocolOption(
                "gallery",
                "index as in UnED, or test: the test list against itself, as in DIOR's code",
                ("index", "test"),
            ),
        )
        if indexed
        else (),
        expected=Expected(counts),
    )


PROTOCOLS = tuple(_protocol(domain) for domain in _DOMAINS)

"""Clevr4-10k: one set of rendered pictures with four independent labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol
from eval.protocols.value_types import LABEL, mapping_of, object_with
from eval.tasks import BenchmarkSource, LabelTask, Task

NOTIONS = ("texture", "shape", "color", "count")

SOURCE = BenchmarkSource(
    title="Clevr4-10k (Vaze, Vedaldi, Zisserman)",
    link="https://www.robots.ox.ac.uk/~vgg/data/clevr4/",
    licence="see its page; not stated in what was read for this loader",
)


def _read(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    annotations = data.find("clevr_4_annots.json", "clevr_4_10k_v1/clevr_4_annots.json")
    root = annotations.parent
    entries = data.json(annotations, mapping_of(object_with()))
    wanted: dict[str, Path] = {}
    labels: dict[str, dict[str, tuple[str, ...]]] = {notion: {} for notion in NOTIONS}
    for name, entry in entries.items():
        file = name if name.endswith(".png") else f"{name}.png"
        key = data.id_of(root / "images" / file)
        if key in wanted:
            raise data.error(f"{annotations} has the picture {file} twice")
        wanted[key] = data.path_below(root / "images", file, annotations)
        for notion in NOTIONS:
            if not LABEL.matches(entry.get(notion)):
                raise data.error(f"{annotations}, picture {name} has no '{notion}'")
            labels[notion][key] = (str(entry[notion]),)
    present = data.existing_pictures(wanted)
    data.check_count("pictures", len(present))
    kept = {n: {key: v[key] for key in present} for n, v in labels.items()}
    for notion in NOTIONS:
        data.check_count(f"values of {notion}", len(set(kept[notion].values())))
    return LabelTask(
        data.task_name(), data.source, present, kept, notes=tuple(data.notes), files=data.files
    )


PROTOCOLS = (
    Protocol(
        name="clevr4",
        about="rendered objects under texture, shape, color and count, 10 balanced values each",
        source=SOURCE,
        files=("clevr_4_annots.json", "images/NAME.png"),
        reader=_read,
        expected=Expected({f"values of {notion}": 10 for notion in NOTIONS}),
    ),
)

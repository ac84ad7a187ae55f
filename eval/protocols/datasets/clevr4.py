"""Clevr4-10k: one set of rendered pictures with four independent labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.protocols.kinds import LABEL, having, named
from eval.protocols.protocol import Protocol
from eval.protocols.published import Expected, Published
from eval.tasks import LabelTask, Source, Task

NOTIONS = ("texture", "shape", "color", "count")

SOURCE = Source(
    title="Clevr4-10k (Vaze, Vedaldi, Zisserman)",
    link="https://www.robots.ox.ac.uk/~vgg/data/clevr4/",
    licence="see its page; not stated in what was read for this loader",
)


def _read(data: Published, options: Mapping[str, str]) -> Task:
    annotations = data.find("clevr_4_annots.json", "clevr_4_10k_v1/clevr_4_annots.json")
    root = annotations.parent
    entries = data.json(annotations, named(having()))
    wanted: dict[str, Path] = {}
    labels: dict[str, dict[str, tuple[str, ...]]] = {notion: {} for notion in NOTIONS}
    for name, entry in entries.items():
        file = name if name.endswith(".png") else f"{name}.png"
        key = data.id_of(root / "images" / file)
        if key in wanted:
            raise data.wrong(f"{annotations} has the picture {file} twice")
        wanted[key] = data.place(root / "images", file, annotations)
        for notion in NOTIONS:
            if not LABEL.fits(entry.get(notion)):
                raise data.wrong(f"{annotations}, picture {name} has no '{notion}'")
            labels[notion][key] = (str(entry[notion]),)
    there = data.pictures(wanted)
    data.count("pictures", len(there))
    kept = {n: {key: v[key] for key in there} for n, v in labels.items()}
    for notion in NOTIONS:
        data.count(f"values of {notion}", len(set(kept[notion].values())))
    return LabelTask(
        data.name(), data.source, there, kept, notes=tuple(data.notes), files=data.files
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

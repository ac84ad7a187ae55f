"""Small data sets of the same form as the published ones, made here: real files, other content."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def picture(path: Path, size: tuple[int, int] = (8, 6), color: str = "gray") -> Path:
    """Write a picture of one color; the suffix says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ","
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


CLEVR4: Mapping[str, Mapping[str, object]] = {
    "a.png": {"texture": "metal", "shape": "cube", "color": "red", "count": 2},
    "b.png": {"texture": "metal", "shape": "cone", "color": "blue", "count": 2},
    "c.png": {"texture": "rubber", "shape": "cube", "color": "red", "count": 1},
}


def clevr4(folder: Path) -> Path:
    """Three pictures under four labels."""
    write_json(folder / "clevr_4_annots.json", CLEVR4)
    for name in CLEVR4:
        picture(folder / "images" / name)
    return folder


def cub200(folder: Path) -> Path:
    """Three species, the first before the test half, the last with a word in lower case."""
    for species, stem, count in (
        ("100.Brown_Auk", "Brown_Auk", 2),
        ("101.White_Auk", "White_Auk", 3),
        ("102.Red_eyed_Tit", "Red_Eyed_Tit", 2),
    ):
        for number in range(1, count + 1):
            name = f"{stem}_{number:04}_{number * 77:06}.jpg"
            picture(folder / "CUB_200_2011" / "images" / species / name)
    return folder

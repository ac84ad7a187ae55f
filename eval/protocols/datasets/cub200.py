"""CUB-200-2011, the metric-learning test half, in both forms that figures are published for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.protocols.protocol import Protocol
from eval.protocols.published import Expected, Published
from eval.tasks import LabelTask, Source, Task

CONDITION = "bird species"

SOURCE = Source(
    title="Caltech-UCSD Birds-200-2011",
    link="https://data.caltech.edu/records/65de6-vp158",
    licence="non-commercial research (from memory; not verified)",
    note="open download, CUB_200_2011.tgz",
)


def _folders(data: Published) -> list[Path]:
    images = data.find("CUB_200_2011/images", "images")
    folders = sorted(path for path in images.iterdir() if path.is_dir())
    data.count("species folders", len(folders))
    for folder in folders:
        if not folder.name.split(".")[0].isdecimal():
            raise data.wrong(f"{folder} is not named by number and species, such as 001.Auk")
    return folders


def _tested(folder: Path) -> bool:
    """Whether a species is in the half that metric learning tests on."""
    return int(folder.name.split(".")[0]) > 100


def _pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


def _species(path: Path) -> str:
    """The file's name less its last two parts, as both published forms label pictures."""
    return " ".join(path.stem.split("_")[:-2])


def _task(data: Published, pictures: list[Path]) -> Task:
    there = data.pictures({data.id_of(path): path for path in pictures})
    data.count("pictures", len(there))
    labels = {key: (_species(path),) for key, path in there.items()}
    data.count("species", len(set(labels.values())))
    return LabelTask(data.name(), data.source, there, {CONDITION: labels}, notes=tuple(data.notes))


def _read(data: Published, options: Mapping[str, str]) -> Task:
    """All pictures of species 101 to 200."""
    return _task(
        data, [f for folder in _folders(data) if _tested(folder) for f in _pictures(folder)]
    )


def _read_by_prefix(data: Published, options: Mapping[str, str]) -> Task:
    """Of all 200, those whose file's name begins with the folder's name of a test species.

    File names write every word with a capital, folders do not, so that species such as
    "White_necked_Raven" are lost. That is how it was published.
    """
    folders = _folders(data)
    names = tuple(folder.name.split(".", 1)[-1] for folder in folders if _tested(folder))
    return _task(
        data, [f for folder in folders for f in _pictures(folder) if f.name.startswith(names)]
    )


_FILES = ("CUB_200_2011/images/NNN.Species_name/Species_Name_NNNN_NNNNNN.jpg",)

PROTOCOLS = (
    Protocol(
        name="cub200",
        about="birds of 100 unseen species, as LanZ-DML and DIOR ask: all 5,924 pictures",
        source=SOURCE,
        files=_FILES,
        reader=_read,
        expected=Expected({"species folders": 200, "pictures": 5924, "species": 100}),
    ),
    Protocol(
        name="cub200-indirect",
        about="the same birds as InDiReCT's notebook selects them: 4,462 pictures of 75 species",
        source=SOURCE,
        files=_FILES,
        reader=_read_by_prefix,
        expected=Expected({"species folders": 200, "pictures": 4462, "species": 75}),
    ),
)

"""CUB-200-2011, the test half of metric learning, in two forms with published figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.protocol import Protocol
from eval.tasks import BenchmarkSource, LabelTask, Task

CONDITION = "bird species"

SOURCE = BenchmarkSource(
    title="Caltech-UCSD Birds-200-2011",
    link="https://data.caltech.edu/records/65de6-vp158",
    licence="non-commercial research (from memory; not verified)",
    note="open download, CUB_200_2011.tgz; or scripts/download_datasets.sh of DIOR's code",
)


#: Where the published archive has a folder for each species.
_NESTED = ("CUB_200_2011/images", "images")


def _folders(data: BenchmarkFolder) -> list[Path]:
    images = data.find(*_NESTED)
    folders = sorted(path for path in images.iterdir() if path.is_dir())
    data.check_count("species folders", len(folders))
    for folder in folders:
        if not folder.name.split(".")[0].isdecimal():
            raise data.error(f"{folder} is not named by number and species, such as 001.Auk")
    return folders


def _is_tested(folder: Path) -> bool:
    """Return whether a species is in the half that metric learning tests on."""
    return int(folder.name.split(".")[0]) > 100


def _pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


def _species(path: Path) -> str:
    """Return the file's name without its last two parts, which is the label in both forms."""
    return " ".join(path.stem.split("_")[:-2])


def _task(data: BenchmarkFolder, pictures: list[Path]) -> Task:
    present = data.existing_pictures({data.id_of(path): path for path in pictures})
    data.check_count("pictures", len(present))
    labels = {key: (_species(path),) for key, path in present.items()}
    data.check_count("species", len(set(labels.values())))
    return LabelTask(
        data.task_name(), data.source, present, {CONDITION: labels}, notes=tuple(data.notes)
    )


def _read(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    """Read all pictures of species 101 to 200.

    A folder of pictures without subfolders, as DIOR's script leaves it, has only these species.
    """
    nested = any((data.folder / name).is_dir() for name in _NESTED)
    flat = None if nested else data.flat_folder("cub200")
    if flat is not None:
        return _task(data, _pictures(flat))
    return _task(
        data, [f for folder in _folders(data) if _is_tested(folder) for f in _pictures(folder)]
    )


def _read_by_prefix(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    """Read the pictures of all species whose file name starts with a test species' folder name.

    File names write every word with a capital and folders do not, so that species such as
    "White_necked_Raven" are missing, as in the published code.
    """
    folders = _folders(data)
    names = tuple(folder.name.split(".", 1)[-1] for folder in folders if _is_tested(folder))
    return _task(
        data, [f for folder in folders for f in _pictures(folder) if f.name.startswith(names)]
    )


_FILES = ("CUB_200_2011/images/NNN.Species_name/Species_Name_NNNN_NNNNNN.jpg",)
_FLAT = "or cub200/Species_Name_NNNN_NNNNNN.jpg, as DIOR's script leaves them"

PROTOCOLS = (
    Protocol(
        name="cub200",
        about="birds of 100 unseen species, as in LanZ-DML and DIOR: all 5,924 pictures",
        source=SOURCE,
        files=(*_FILES, _FLAT),
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

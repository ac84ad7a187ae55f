"""LanZ-DML without its birds: cars, rendered cars, movie posters and clothes.

Pictures and labels are those of InDiReCT and DIOR. Every picture is a query, and all others are
ranked; nothing is trained on the labels.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from eval.protocols.data_folder import BenchmarkFolder, Expected
from eval.protocols.datasets.uned import read_list
from eval.protocols.protocol import Protocol, ProtocolOption
from eval.tasks import BenchmarkSource, LabelTask, Task

_METADATA = "https://github.com/CyberAgentAILab/DIOR_conditional_image_embeddings"

CARS196 = BenchmarkSource(
    title="Stanford Cars, the metric-learning test half",
    link="https://cmp.felk.cvut.cz/univ_emb/",
    licence="research use (from memory; not verified)",
    note="info_files.zip for the list; the original site is offline, pictures are mirrored on "
    "Kaggle, whose copies do not keep the original numbering",
)
SYNTHETIC_CARS = BenchmarkSource(
    title="3D cars of DML-analysis, as InDiReCT and DIOR judge them",
    link="https://github.com/konstantinkobs/DML-analysis/tree/master/3D_cars",
    licence="not stated",
    note="DIOR's README says the link to the pictures is dead; do not pass them on",
)
MOVIE_POSTERS = BenchmarkSource(
    title="Movie posters (W.-T. Chu, CCU)",
    link="https://www.cs.ccu.edu.tw/~wtchu/projects/MoviePoster/",
    licence="the posters are copyrighted; for evaluation only",
    note=f"labels: metadata/movie_poseter_metadata.tsv of {_METADATA}",
)
DEEPFASHION = BenchmarkSource(
    title="DeepFashion, category and attribute prediction, fine test list",
    link="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html",
    licence="non-commercial research (from memory; not verified)",
    note="pictures need a form and a password; labels: metadata/deepfashon_metadata.csv of "
    + _METADATA,
)

#: CSS 2.1 colors in webcolors' order; of equally near ones the last is used, as published.
_COLORS = (
    ("orange", (255, 165, 0)),
    ("aqua", (0, 255, 255)),
    ("black", (0, 0, 0)),
    ("blue", (0, 0, 255)),
    ("fuchsia", (255, 0, 255)),
    ("green", (0, 128, 0)),
    ("gray", (128, 128, 128)),
    ("lime", (0, 255, 0)),
    ("maroon", (128, 0, 0)),
    ("navy", (0, 0, 128)),
    ("olive", (128, 128, 0)),
    ("purple", (128, 0, 128)),
    ("red", (255, 0, 0)),
    ("silver", (192, 192, 192)),
    ("teal", (0, 128, 128)),
    ("white", (255, 255, 255)),
    ("yellow", (255, 255, 0)),
)

#: CSS 3 colors that are not in CSS 2.1 and that the transform can produce exactly; the published
#: code names them by CSS 3.
_EXACT = {(105, 105, 105): "dimgray", (47, 79, 79): "darkslategray"}


def color_name(hue: float, saturation: float, value: float) -> str:
    """Return the label that the published code gives to a rendered color.

    Hue is shifted by half a turn, saturation and value are halved. The label is the CSS 2.1 color
    with the smallest squared RGB distance, except that an exact CSS 3 color keeps its name.

    Args:
        hue: 0 to 1.
        saturation: 0 to 1.
        value: 0 to 1.
    """
    turned = colorsys.hsv_to_rgb((hue + 0.5) % 1, 0.5 * saturation, 0.5 * value)
    rgb = tuple(int(255 * channel) for channel in turned)
    if rgb in _EXACT:
        return _EXACT[rgb]
    name, nearest = "", 4 * 255**2
    for color, channels in _COLORS:
        distance = sum((a - b) ** 2 for a, b in zip(channels, rgb, strict=True))
        if distance <= nearest:
            name, nearest = color, distance
    return name


def _task(
    data: BenchmarkFolder,
    pictures: Mapping[str, Path],
    labels: Mapping[str, Mapping[str, str]],
    name: str | None = None,
) -> Task:
    """Return a task of pictures (id to file) and labels (condition to id to label, or empty)."""
    present = data.existing_pictures(pictures)
    data.check_count("pictures", len(present))
    kept = {
        condition: {key: (values[key],) for key in present if values[key]}
        for condition, values in labels.items()
    }
    for condition, values in kept.items():
        data.check_count(f"values of {condition}", len(set(values.values())))
    return LabelTask(
        data.task_name(name), data.source, present, kept, notes=tuple(data.notes), files=data.files
    )


def _read_cars196(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    found = read_list(data, "cars", "test")
    return _task(
        data,
        {key: path for key, (path, _) in found.items()},
        {"car model": {key: ",".join(labels) for key, (_, labels) in found.items()}},
    )


def _read_synthetic_cars(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    path = data.find(
        "synthetic_metadata.csv", "metadata/synthetic_metadata.csv", "cars.csv", "samples.csv"
    )
    colors = [f"{part}_{axis}" for part in ("color", "bg_color") for axis in ("hue", "sat", "val")]
    rows = data.rows(path, ("model", *colors))
    root = data.flat_folder("cars", "images", "synthetic_cars")
    if root is None:
        raise data.error(f"{data.folder} has no folder cars of pictures")
    files = {
        int(file.stem): file
        for file in sorted(root.iterdir())
        if file.suffix.lower() in (".png", ".jpg") and file.stem.isdecimal()
    }
    if rows and "frame" in rows[0]:
        frames: dict[int, Mapping[str, str]]
        frames = {int(_number(data, path, row, "frame")): row for row in rows}
        if len(frames) < len(rows):
            raise data.error(f"{path} has a frame twice")
        first = sorted(frame for frame in frames if 1 <= frame <= 1000)
    else:
        frames = _numbered(data, path, rows[:1000], sorted(files))
        first = sorted(frames)
    pictures, model, color, background = {}, {}, {}, {}
    for frame in first:
        file = files.get(frame, root / f"{frame}.png")
        key = data.id_of(file)
        row = frames[frame]
        values = [_number(data, path, row, name) for name in colors]
        pictures[key] = file
        model[key] = row["model"]
        color[key] = color_name(*values[:3])
        background[key] = color_name(*values[3:])
    labels = {"car model": model, "car color": color, "background color": background}
    return _task(data, pictures, labels)


def _numbered(
    data: BenchmarkFolder, path: Path, rows: Sequence[Mapping[str, str]], numbers: Sequence[int]
) -> dict[int, Mapping[str, str]]:
    """The rows of a list without frames, by the numbers of their files.

    The first column without a name is the number of the row, as pandas writes it. It is the
    file's number if every row has a file of its number. Otherwise, rows and files are in the same
    order, as the published code takes them (there by name, so that 10 comes before 2).

    Raises:
        DataError: if there are not as many files as rows.
    """
    index = [row.get("", "") for row in rows]
    if len(set(index)) == len(rows) and all(text.isdecimal() for text in index):
        by_number = {int(text): row for text, row in zip(index, rows, strict=True)}
        if by_number.keys() <= set(numbers):
            return by_number
    if len(numbers) != len(rows):
        raise data.error(
            f"{path} has no column 'frame', and its {len(rows):,} rows cannot be matched with "
            f"{len(numbers):,} numbered pictures; keep exactly those"
        )
    data.notes.append("Rows and pictures were matched by their order, as the list has no frames.")
    return dict(zip(numbers, rows, strict=True))


def _number(data: BenchmarkFolder, path: Path, row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise data.error(f"{path} has '{row[column]}' for a number in '{column}'")
    return value


def _read_movie_posters(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    name = "movie_poseter_metadata.tsv"
    path = data.find(name, f"metadata/{name}", "movie_poster_metadata.tsv")
    rows = data.rows(path, ("imdbID", "Genre", "Country"), "\t", published=name)
    data.check_unique("film", (row["imdbID"] for row in rows), path)
    data.check_count("genres", len({row["Genre"] for row in rows}))
    data.check_count("countries", len({row["Country"] for row in rows}))
    find = _finder(
        data, ("movie_posters", "images", "Movie_Poster_Dataset", "datasets/movie_posters")
    )
    files = {row["imdbID"]: find(f"{row['imdbID']}.jpg") for row in rows}
    left_out = options["unknown"] == "left-out"
    labels: dict[str, dict[str, str]] = {"movie genre": {}, "movie's production country": {}}
    for row in rows:
        key = data.id_of(files[row["imdbID"]])
        for condition, column in zip(labels, ("Genre", "Country"), strict=True):
            unknown = left_out and row[column] == "N/A"
            labels[condition][key] = "" if unknown else row[column]
    return _task(
        data,
        {data.id_of(file): file for file in files.values()},
        labels,
        "movie_posters-without-unknown" if left_out else None,
    )


def _read_deepfashion(data: BenchmarkFolder, options: Mapping[str, str]) -> Task:
    name = "deepfashon_metadata.csv"
    path = data.find(name, f"metadata/{name}", "deepfashion_metadata.csv")
    columns = ("clothing_category", "texture", "fabric", "fit")
    rows = data.rows(path, ("file_names", *columns), published=name)
    data.check_unique("picture", (row["file_names"] for row in rows), path)
    flat = _finder(data, ("deepfashion", "images", "img", "datasets/deepfashion"))
    labels: dict[str, dict[str, str]] = {
        condition: {}
        for condition in ("clothing category", "texture type", "fabric type", "fit type")
    }
    pictures = {}
    for row in rows:
        garment, mark, number = row["file_names"].rpartition("-img_")
        if not mark:
            raise data.error(f"{path} names '{row['file_names']}', which is not GARMENT-img_N.jpg")
        nested = data.folder / "img" / garment / f"img_{number}"
        file = nested if nested.exists() else flat(row["file_names"])
        key = data.id_of(file)
        pictures[key] = file
        for condition, column in zip(labels, columns, strict=True):
            labels[condition][key] = _category(data, path, row[column], column)
    return _task(data, pictures, labels)


def _category(data: BenchmarkFolder, path: Path, text: str, column: str) -> str:
    """Return the number of a class, from 1; the file has the number or a one-hot row."""
    digits = text.split()
    if len(digits) == 1:
        return digits[0]
    if sorted(digits) != ["0"] * (len(digits) - 1) + ["1"]:
        raise data.error(f"{path} has '{text.strip()}' in '{column}', which is not one of several")
    return str(digits.index("1") + 1)


def _finder(data: BenchmarkFolder, folders: Sequence[str]) -> Callable[[str], Path]:
    """Return a function that finds a file by name.

    It looks in the folders that exist and in those directly below them; a file that is in none
    is expected in the first.
    """
    roots = [data.folder / name for name in folders if (data.folder / name).is_dir()]
    roots += [inner for root in roots for inner in sorted(root.iterdir()) if inner.is_dir()]
    roots.append(data.folder)
    names = [{entry.name for entry in root.iterdir()} for root in roots]

    def find(name: str) -> Path:
        for root, present in zip(roots, names, strict=True):
            if name in present:
                return root / name
        return roots[0] / name

    return find


PROTOCOLS = (
    Protocol(
        name="cars196",
        about="car model of 98 unseen models",
        source=CARS196,
        files=(
            "info_files/cars/test.json",
            "images/PATH as the list names them, or cars196/NAME without folders",
        ),
        reader=_read_cars196,
        expected=Expected({"test pictures": 8131, "pictures": 8131, "values of car model": 98}),
    ),
    Protocol(
        name="synthetic_cars",
        about="rendered cars under model, color and background color, the first 1,000",
        source=SYNTHETIC_CARS,
        files=(
            "synthetic_metadata.csv, cars.csv or samples.csv, with or without a column 'frame'",
            "cars/FRAME.png or synthetic_cars/NUMBER.png",
        ),
        reader=_read_synthetic_cars,
        expected=Expected({"pictures": 1000, "values of car model": 6}),
    ),
    Protocol(
        name="movie_posters",
        about="posters under genre and country, 8,052 films",
        source=MOVIE_POSTERS,
        files=("movie_poseter_metadata.tsv", "images/IMDBID.jpg"),
        reader=_read_movie_posters,
        options=(
            ProtocolOption(
                "unknown",
                "whether N/A is a label like any other, as published, or left out",
                ("kept", "left-out"),
            ),
        ),
        expected=Expected(
            {"pictures": 8052, "genres": 25, "countries": 69},
            {
                "movie_poseter_metadata.tsv": (
                    "2ef96f7f3e862010b2e6d2d4061dfb0fb27208bcb7df41fa7ef61a012af1615c"
                )
            },
        ),
    ),
    Protocol(
        name="deepfashion",
        about="clothes under category, texture, fabric and fit, 4,000 pictures",
        source=DEEPFASHION,
        files=("deepfashon_metadata.csv", "img/GARMENT/img_N.jpg or images/GARMENT-img_N.jpg"),
        reader=_read_deepfashion,
        expected=Expected(
            {
                "pictures": 4000,
                "values of clothing category": 41,
                "values of texture type": 7,
                "values of fabric type": 6,
                "values of fit type": 3,
            },
            {
                "deepfashon_metadata.csv": (
                    "c87732cd859134a72db095d5de52515b9912e73cdad362746e394d8415b9a3b6"
                )
            },
        ),
    ),
)

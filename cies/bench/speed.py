"""``cies bench embed``, ``ingest``, ``metrics`` and ``start``: print the speed of one part of CIES.

What a command measures is imported in its function: libraries of another command would count in
its time and memory.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from cies.console import print_json, print_table, say
from indexes.errors import UsageError
from ingest.encoders.models.find import DEFAULT_PHOTO, find_model
from query.hits import SCHEMA_VERSION

#: Pictures of the gallery of ``cies bench start``; a start depends little on their number.
_START_PICTURES = 40


def run_bench_embed(
    model: str | None,
    shape: str,
    counts: str,
    images: int,
    size: int,
    rounds: int,
    dtype: str,
    device: str,
    as_json: bool,
) -> None:
    """Measure the packed pass, a pass per pair and a key-value cache, and print the table.

    Raises:
        UsageError: if the numbers of conditions, the shape or the dtype are invalid, or the model
            cannot be packed.
        ModelError: if the model is not available.
    """
    from eval.bench.embed import CONDITIONS, bench_embed, environment
    from eval.bench.stand_in_model import SHAPES, make_stand_in
    from eval.world.factors import sample_scenes
    from eval.world.render import render
    from ingest.conditions import Condition
    from ingest.encoders.devices import check_dtype
    from ingest.encoders.methods.dior import DiorEncoder
    from ingest.encoders.options import EncoderChoice

    try:
        wanted = [int(part) for part in counts.split(",")]
    except ValueError:
        wanted = []
    if not wanted or not all(1 <= number <= len(CONDITIONS) for number in wanted):
        raise UsageError(
            f"--conditions takes numbers from 1 to {len(CONDITIONS)}, such as 1,4,8,16, "
            f"not '{counts}'."
        )
    check_dtype(dtype)
    if shape not in SHAPES:
        raise UsageError(f"There is no shape '{shape}'; choose one of {', '.join(SHAPES)}.")
    if model == DEFAULT_PHOTO:
        _bench_photo(images, size, as_json)
        return
    if model is None:
        conditions = [Condition.parse(name) for name in CONDITIONS]
        precision = "float32" if dtype == "auto" else dtype
        place = "cpu" if device == "auto" else device
        encoder = make_stand_in(conditions, precision, place, SHAPES[shape])
    else:
        choice = EncoderChoice("dior", model, dtype=dtype, device=device, force=True)
        encoder = DiorEncoder.load(choice)
    if not encoder.lvlm.packs:
        raise UsageError(
            f"{model} cannot be packed ({encoder.lvlm.family.reason}), so that there is nothing to "
            "compare; name another --model."
        )
    pictures = [render(scene, size) for scene in sample_scenes(images, seed=3)]
    lines = bench_embed(encoder, pictures, wanted, rounds, progress=lambda line: say(f"  {line}"))
    about = environment(encoder)
    if as_json:
        document = {"environment": about, "lines": [asdict(line) for line in lines]}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    columns = {
        "conditions": "{0.conditions}",
        "way": "{0.way}",
        "images/s": "{0.images_per_second:.3f}",
        "over reference": "{0.over_reference:.2f}",
        "over cached": "{0.over_cached:.2f}",
        "GFLOP/image": "{0.gigaflops:.1f}",
        "FLOP ratio": "{0.flop_ratio:.2f}",
        "share of ceiling": "{0.share_of_ceiling:.3f}",
        "vision passes": "{0.vision_passes:.0f}",
        "worst cosine": "{0.worst_cosine:.6f}",
        "TFLOP/s": "{0.teraflops_per_second:.3f}",
        "share of peak": "{0.share_of_peak:.2f}",
    }
    print_table(list(columns), [[cell.format(line) for cell in columns.values()] for line in lines])
    say("; ".join(f"{name} {value}" for name, value in about.items()))
    say(f"{images} pictures of {size} px, medians of {rounds} rounds, without preparation.")


def _bench_photo(images: int, size: int, as_json: bool) -> None:
    """Measure and print the speed of the method photo under all its conditions."""
    from eval.bench.photo import measure_photo_speed
    from eval.world.factors import sample_scenes
    from eval.world.render import render
    from ingest.conditions import Condition
    from ingest.encoders.factory import make_encoder

    names = find_model(DEFAULT_PHOTO).declared_conditions() or {}
    pictures = [render(scene, size) for scene in sample_scenes(images, seed=3)]
    conditions = [Condition.parse(name) for name in names]
    found = measure_photo_speed(make_encoder("photo"), pictures, conditions)
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "photo": asdict(found)})
        return
    print_table(
        ["conditions", "pictures", "pictures/s", "pictures/s of a core"],
        [
            [
                str(found.conditions),
                str(found.pictures),
                f"{found.pictures_per_second:.1f}",
                f"{found.pictures_per_core_second:.1f}",
            ]
        ],
        title="The method photo, all its conditions and words, on one thread",
        numbers=["conditions", "pictures", "pictures/s", "pictures/s of a core"],
    )


def run_bench_ingest(
    cost_ms: float, pictures: int, megapixels: float, folder: Path | None, as_json: bool
) -> None:
    """Ingest new pictures with a stand-in encoder, print the figures, and remove the files.

    Args:
        cost_ms: milliseconds that the stand-in takes per picture.
        pictures: number of pictures.
        megapixels: the size of each picture in megapixels.
        folder: the folder to work in; a temporary one by default.
        as_json: whether to print a JSON document.

    Raises:
        GalleryError: if the disk is full.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from eval.bench.ingest import bench_ingest, write_pictures
    from eval.environment import environment

    with TemporaryDirectory(prefix="cies-bench-", dir=folder) as made:
        place = Path(made)
        say(f"Making {pictures} pictures of {megapixels:g} megapixels ...")
        # In another process, so that its memory does not count as the pipeline's.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            total = pool.submit(write_pictures, place / "in", pictures, megapixels).result()
        figures = bench_ingest(place / "in", place / "gallery", cost_ms, total)
    about = environment("lancedb", "pyarrow", "pillow", "numpy")
    if as_json:
        asked = {"cost_ms": cost_ms, "megapixels": megapixels}
        document = {"environment": about, "asked": asked, "figures": asdict(figures)}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    print_table(
        ["what", "value"],
        [
            ["pictures", str(figures.pictures)],
            ["megapixels", f"{megapixels:g}"],
            ["megabytes a file", f"{figures.file_bytes / 1e6:.2f}"],
            ["encoder, ms a picture", f"{cost_ms:g}"],
            ["encoder busy", f"{100 * figures.busy:.1f} %"],
            ["pictures/s", f"{figures.pictures_per_second:.1f}"],
            ["seconds in all", f"{figures.seconds:.1f}"],
            ["peak resident memory", f"{figures.peak_bytes / 1e6:.0f} MB"],
        ],
        numbers=["value"],
    )
    say("; ".join(f"{name} {value}" for name, value in about.items()))


def run_bench_metrics(vectors: int, dimension: int, labels: int, seed: int, as_json: bool) -> None:
    """Measure generated vectors against each other, and print seconds and megabytes.

    Args:
        vectors: number of vectors.
        dimension: the dimension of each vector.
        labels: number of distinct labels.
        seed: the seed of vectors and labels.
        as_json: whether to print a JSON document.
    """
    from eval.bench.metrics import measure_metrics

    say(f"Ranking {vectors} vectors of {dimension} against each other ...")
    found = measure_metrics(vectors, dimension, labels, seed)
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, **vars(found)})
        return
    print_table(
        ["metric", "mean", "chance"],
        [[name, f"{mean:.5f}", f"{found.chance[name]:.5f}"] for name, mean in found.values.items()],
        title=f"{vectors} x {vectors} x {dimension}, {labels} random labels",
        numbers=["mean", "chance"],
    )
    plain = "scores and argsort of whole rows alone, all at once"
    seconds, used = f"{found.seconds:.1f}", f"{found.cpu_seconds:.1f}"
    print_table(
        ["", "seconds", "of processors", "megabytes"],
        [
            ["all metrics", seconds, used, f"{found.peak_megabytes:.0f}"],
            [plain, "", f"{found.plain_seconds:.1f}", f"{found.matrix_megabytes:.0f}"],
        ],
        numbers=["seconds", "of processors", "megabytes"],
    )


def run_bench_start(rounds: int, as_json: bool) -> None:
    """Make a small gallery, measure cold starts, and print them as ratios.

    Args:
        rounds: runs of each command.
        as_json: whether to print a JSON document.
    """
    from cies import api
    from eval.bench.start import measure_starts
    from eval.world.gallery import write_world

    with TemporaryDirectory() as name:
        folder = Path(name)
        say(f"Rendering and embedding {_START_PICTURES} pictures ...")
        write_world(folder / "world", _START_PICTURES, seed=5, size=128, workers=1)
        images = sorted((folder / "world" / "images").iterdir())
        api.ingest(api.create(folder / "gallery"), [folder / "world" / "images"], ["color"])
        new = folder / "new.jpg"
        # The same pixels with other bytes are a new picture.
        new.write_bytes(images[0].read_bytes() + b"\0")
        starts = measure_starts(folder / "gallery", "color", images[0], new, rounds, say)
    if as_json:
        document = {"rounds": rounds, "starts": [vars(start) for start in starts]}
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    print_table(
        ["command", "seconds", "baseline", "its seconds", "ratio", "at most", "imports"],
        [
            [
                start.command,
                f"{start.seconds:.3f}",
                start.beside,
                f"{start.beside_seconds:.3f}",
                f"{start.ratio:.2f}",
                f"{start.limit:.1f}",
                ", ".join(start.imports) or "none of the heavy ones",
            ]
            for start in starts
        ],
        title=f"Cold starts, medians of {rounds} rounds taken in turn",
        numbers=["seconds", "its seconds", "ratio", "at most"],
    )

"""Every kind of picture through every entrance: the same pixels, and the right ones."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.odd_pictures import PROPHOTO, SRGB, OddPicture, in_prophoto, odd_pictures, scene

import cies
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.conditions import Condition
from ingest.encoders.methods.dior import DiorEncoder
from ingest.fill.pipeline import ingest
from ingest.read.decoder_pool import DecoderPool
from ingest.read.images import UnreadableImage, decode
from ingest.read.isolated import picture_of
from ingest.read.profiles import BROKEN

PICTURES = odd_pictures()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool() as pool:
        yield pool


def loaded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_looks_right_through_every_entrance(name: str, pool: DecoderPool) -> None:
    odd = PICTURES[name]
    # This is how an ingest reads it.
    stored = np.asarray(pool.decode(odd.data).image)
    right = np.asarray(odd.right, dtype=int)
    assert stored.shape == right.shape
    assert np.abs(stored - right).mean() <= odd.tolerance
    entrances = {
        "bytes": picture_of(odd.data),
        "opened": picture_of(Image.open(io.BytesIO(odd.data))),
    }
    if name not in ("four_bits_key.png", "thumbnail_first.tif"):  # Pillow drops what they say.
        entrances["loaded"] = picture_of(loaded(odd.data))
    if odd.array:
        entrances["array"] = picture_of(np.asarray(loaded(odd.data)))
        entrances["copied"] = picture_of(loaded(odd.data).copy())
    for entrance, picture in entrances.items():
        assert np.array_equal(np.asarray(picture.image), stored), entrance
        assert not picture.image.info


def test_scores_of_a_picture_against_its_own_vector(builtin: DiorEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, odd in PICTURES.items():
        (folder / name).write_bytes(odd.data)
    gallery = Gallery.create(tmp_path / "g.cies")
    color = [Condition.parse("background")]
    report = ingest(gallery, [folder], color, lambda spec: builtin)
    assert not report.failed and report.embedded == len(PICTURES)
    opened = cies.open(tmp_path / "g.cies", model=builtin)
    encoder = cies.Encoder(builtin)
    names = [
        *("rgba.png", "turned.jpg", "deep.png", "deep_key.png", "white_is_zero.tif"),
        *("prophoto.png", "linear_grey.png", "clear.gif", "cmyk.tif", "thumbnail_first.tif"),
    ]
    for name in names:
        data = (folder / name).read_bytes()
        # Files and bytes are recognised as pictures of the gallery; a picture in memory is not.
        hits = opened.search(Image.open(io.BytesIO(data)), condition="background", k=99)
        own = next(hit.score for hit in hits if Path(hit.path).name == name)
        assert own == pytest.approx(1.0, abs=2e-3), name
        by_file, by_image, by_bytes = encoder.encode(
            [folder / name, Image.open(io.BytesIO(data)), data], "background"
        )
        assert by_file @ by_image == pytest.approx(1.0, abs=1e-5)
        assert by_file @ by_bytes == pytest.approx(1.0, abs=1e-5)


def test_a_large_photo_opened_by_pillow_is_reduced_as_an_ingest_reduces_it() -> None:
    buffer = io.BytesIO()
    scene(1200, 900).save(buffer, "JPEG")
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    want = decode(buffer.getvalue(), 300).image
    assert np.array_equal(np.asarray(picture_of(opened, 300).image), np.asarray(want))
    assert opened.size == (1200, 900)  # The caller's picture stays as it is.
    kept = opened.copy()
    assert picture_of(opened, 300).image.size == (300, 225)
    assert opened.size == (1200, 900) and opened.tobytes() == kept.tobytes()


def test_arrays_that_say_nothing_are_refused() -> None:
    for array in (np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(UsageError, match="is not a picture; give uint8 or uint16"):
            picture_of(array)
    deep = (np.asarray(scene()).astype(np.uint16) * 257).astype(">u2")
    assert np.array_equal(np.asarray(picture_of(deep).image), np.asarray(scene()))


# -- color profiles ------------------------------------------------------------------------


def saved(image: Image.Image, form: str = "PNG", **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF", "AVIF", "PNG"])
def test_profiles_of_every_format_are_applied(form: str) -> None:
    data = saved(in_prophoto(scene()), form, icc_profile=PROPHOTO, quality=95)
    for side in (None, 60):
        got = np.asarray(decode(data, side).image, dtype=int)
        want = scene() if side is None else scene().resize((60, 40), Image.Resampling.LANCZOS)
        assert np.abs(got - np.asarray(want)).mean() < 5
    # Version 1, of galleries that were made before, ignores them.
    assert np.abs(np.asarray(decode(data, pixels=1).image, int) - np.asarray(scene())).mean() > 10


def test_profiles_are_applied_as_littlecms_does() -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(PROPHOTO))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    want = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    got = decode(saved(image, icc_profile=PROPHOTO)).image
    assert np.abs(np.asarray(got, int) - np.asarray(want)).max() <= 1


def test_a_profile_that_cannot_be_used_is_ignored_and_noted() -> None:
    for name in ("broken_profile.png", "wrong_profile.png"):
        with DecoderPool() as pool:
            picture = pool.decode(PICTURES[name].data)
        assert picture.notes == (BROKEN,)
        assert np.array_equal(np.asarray(picture.image), np.asarray(scene()))
    assert decode(saved(scene(), icc_profile=SRGB)).notes == ()
    cut = decode(saved(scene(), icc_profile=PROPHOTO[:300]))
    assert cut.notes == (BROKEN,)


# -- deep samples --------------------------------------------------------------------------


def grey_tiff(samples: np.ndarray, **tags: object) -> bytes:
    if samples.dtype in (np.int8, np.int16):  # Pillow writes them without their sign.
        unsigned = samples.view(samples.dtype.str.replace("i", "u"))
        return saved(Image.fromarray(unsigned), "TIFF", tiffinfo={339: 2})
    return saved(Image.fromarray(samples), "TIFF", **tags)


@pytest.mark.parametrize(
    ("samples", "want"),
    [
        (np.full((9, 9), 255, np.int32), 255),
        (np.where(np.eye(9) * np.arange(9) == 8, 256, 255).astype(np.int32), 255),
        (np.full((9, 9), 500, np.float32), 128),
        (np.linspace(0, 32767, 81).reshape(9, 9).astype(np.int16), 128),
        (np.linspace(-32768, 32767, 81).reshape(9, 9).astype(np.int16), 128),
        (np.linspace(0, 127, 81).reshape(9, 9).astype(np.int8), 128),
        (np.linspace(-128, 127, 81).reshape(9, 9).astype(np.int8), 128),
        (np.full((9, 9), 0.5, np.float32), 128),
        (np.zeros((9, 9), np.float32), 0),
        (np.full((9, 9), np.nan, np.float32), "unsupported"),
        (np.where(np.eye(9), np.nan, 0.5).astype(np.float32), 120),
    ],
)
def test_scales_of_samples_that_name_no_white(samples: np.ndarray, want: int | str) -> None:
    data = grey_tiff(samples)
    if isinstance(want, str):
        with pytest.raises(UnreadableImage) as caught:
            decode(data)
        assert caught.value.status == want
    else:
        assert abs(np.asarray(decode(data).image).mean() - want) < 15


def test_negative_samples_are_stretched_between_their_percentiles() -> None:
    heights = np.linspace(-1000, 3000, 200, dtype=np.float32)[None, :].repeat(20, 0)
    row = np.asarray(decode(grey_tiff(heights)).image)[0, :, 0]
    assert row[0] == 0 and row[-1] == 255 and abs(int(row[100]) - 128) < 3


def test_a_multi_page_document_gives_its_first_page() -> None:
    pages = [Image.new("L", (100, 80), value) for value in (10, 20, 30)]
    pages.append(Image.new("L", (105, 80), 40))
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert decode(data).image.getpixel((5, 5)) == (10, 10, 10)


def test_an_icon_gives_its_largest_picture() -> None:
    data = saved(scene(128, 128), "ICO", sizes=[(16, 16), (128, 128), (32, 32)])
    assert decode(data).image.size == (128, 128)


def test_old_versions_take_the_first_page_and_old_scales() -> None:
    odd: OddPicture = PICTURES["thumbnail_first.tif"]
    assert decode(odd.data, pixels=1).image.size == (16, 8)
    assert np.asarray(decode(PICTURES["float.tif"].data, pixels=1).image).max() <= 1

"""Names that disagree with the content, texts that nobody reads, and what decoders complain of."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from support.encoded import encoded, ramp
from support.odd_pictures import chunk, scene
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from indexes.store.gallery import Gallery
from ingest.read.decoder_pool import DecoderPool
from ingest.read.formats import SUFFIXES, UNSUPPORTED
from ingest.read.images import MAX_DECODER_BYTES, LargePicture, UnreadableImage, decode

MANY = 20_000


# -- names and content ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".dng", ".cr2", ".nef", ".raf", ".jpg"])
@pytest.mark.parametrize("form", ["JPEG", "TIFF", "PNG", "WEBP", "DIB", "PPM"])
def test_a_file_is_read_by_its_content(form: str, suffix: str) -> None:
    picture = decode(encoded(scene(), form), suffix=suffix)
    assert picture.format == form and picture.image.size == (120, 80)


@pytest.mark.parametrize(
    ("form", "suffix"),
    [
        *(("DIB", ".dib"), ("PPM", ".ppm"), ("PPM", ".pgm"), ("JPEG2000", ".jp2")),
        *(("JPEG2000", ".j2k"), ("ICO", ".ico"), ("PNG", ".apng"), ("MPO", ".mpo")),
    ],
)
def test_listed_formats_are_read(form: str, suffix: str) -> None:
    buffer = io.BytesIO()
    pages = {"save_all": True, "append_images": [scene(64, 64)]} if form == "MPO" else {}
    scene(64, 64).save(buffer, form, **pages)
    assert suffix in SUFFIXES
    picture = decode(buffer.getvalue(), suffix=suffix)
    assert picture.format == form and picture.image.size == (64, 64)
    difference = np.asarray(picture.image, int) - np.asarray(scene(64, 64))
    assert np.abs(difference).mean() < 4


def test_deep_portable_maps_have_their_own_white() -> None:
    grey = np.linspace(0, 1023, 64).astype(">u2")[None, :].repeat(8, 0)
    data = b"P5 64 8 1023\n" + grey.tobytes()
    row = np.asarray(decode(data).image)[0, :, 0]
    assert row[0] == 0 and row[-1] == 255 and abs(int(row[32]) - 129) <= 2


def test_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    for suffix in (".jxl", ".psd", ".tga", ".eps", ".xcf"):
        assert suffix in UNSUPPORTED and suffix not in SUFFIXES
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"x{suffix}").write_bytes(b"x")
    report = fill(Gallery.create(tmp_path / "g.cies"), tmp_path / "in", "color", StandIn())
    assert {record.status for record in report.failed} == {"unsupported"}
    assert len(report.failed) == 5


# -- texts ---------------------------------------------------------------------------------


def png_with(*chunks: bytes) -> bytes:
    plain = encoded(ramp(), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def hostile() -> dict[str, bytes]:
    """Files with more text than picture."""
    bomb = zlib.compress(bytes(2**20))
    jpeg, gif = encoded(ramp(), "JPEG"), encoded(ramp(), "GIF")
    exif = b"\xff\xe1" + struct.pack(">H", 65535) + b"Exif\0\0" + bytes(65527)
    table = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    return {
        "ztxt.png": png_with(*(chunk(b"zTXt", b"k%d\0\0" % n + bomb) for n in range(MANY // 4))),
        "itxt.png": png_with(
            *(chunk(b"iTXt", b"k%d\0\1\0\0\0" % n + bomb) for n in range(MANY // 4))
        ),
        "text.png": png_with(*(chunk(b"tEXt", b"k%d\0" % n + bytes(500)) for n in range(MANY))),
        "xmp.png": png_with(*[chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)] * MANY),
        "exif.jpg": jpeg[:2] + exif * 600 + jpeg[2:],
        "comment.jpg": jpeg[:2]
        + (b"\xff\xfe" + struct.pack(">H", 65535) + bytes(65533)) * 600
        + jpeg[2:],
        "comment.gif": gif[:table]
        + (b"!\xfe" + (b"\xff" + b"x" * 255) * 50_000 + b"\0")
        + gif[table:],
    }


@pytest.mark.parametrize("name", hostile())
def test_texts_take_no_time(name: str) -> None:
    data = hostile()[name]
    started = time.process_time()
    image = decode(data).image
    assert time.process_time() - started < 2
    form = {"png": "PNG", "jpg": "JPEG", "gif": "GIF"}[name.rpartition(".")[2]]
    assert np.array_equal(np.asarray(image), np.asarray(decode(encoded(ramp(), form)).image))


def test_the_orientation_in_a_text_is_kept() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    data = png_with(
        *(chunk(b"tEXt", b"k\0v") for _ in range(9)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
    )
    assert decode(data).image.size == (48, 64)


def test_tags_of_a_tiff_that_claim_too_much_are_refused() -> None:
    data = bytearray(encoded(ramp(), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    entries = [struct.pack("<HHLL", 50000 + n, 7, len(data) - 8, 8) for n in range(15_000)]
    table = bytes(data[start + 2 : start + 2 + 12 * count]) + b"".join(entries)
    data[4:8] = len(data).to_bytes(4, "little")
    data += struct.pack("<H", count + len(entries)) + table + bytes(4)
    started = time.process_time()
    with pytest.raises(UnreadableImage) as caught:
        decode(bytes(data))
    assert caught.value.status == "bomb" and time.process_time() - started < 5


# -- memory --------------------------------------------------------------------------------


def test_large_pictures_are_decoded_in_turn_and_in_little_memory(soak: bool) -> None:
    side = 8000 if soak else 4500
    pictures = []
    for mode, color in (("RGBA", (9, 8, 7, 99)), ("P", 3), ("F", 0.5)):
        image = Image.new(mode, (side, side - 10), color)
        if mode == "P":
            image.putpalette(list(range(256)) * 3)
        form = "TIFF" if mode == "F" else "PNG"
        more = {"compression": "tiff_lzw"} if mode == "F" else {"compress_level": 1}
        pictures.append(encoded(image, form, **more))
    peak = 0
    with DecoderPool(700) as pool:
        from concurrent.futures import ThreadPoolExecutor, wait

        with ThreadPoolExecutor(3) as threads:
            results = [threads.submit(pool.decode, data) for data in pictures]
            while wait(results, 0.02).not_done:
                children = [one for one in psutil.Process().children() if one.is_running()]
                ours = [one for one in children if "decoder_process" in " ".join(one.cmdline())]
                sizes = [one.memory_info().rss for one in ours]
                peak = max(peak, sum(sizes))
        sizes = [result.result().image.size for result in results]
    assert sizes == [(700, 699)] * 3
    assert peak < (700 if soak else 450) * 2**20


def test_a_picture_that_needs_too_much_memory_is_refused() -> None:
    data = encoded(Image.new("RGB", (300, 300)), "PNG")
    with pytest.raises(LargePicture) as caught:
        decode(data, most=100_000)
    assert caught.value.status == "too_large" and 0 < caught.value.bytes < MAX_DECODER_BYTES


# -- complaints and copies -----------------------------------------------------------------


def broken_fax() -> bytes:
    """A TIFF of which libtiff decodes most and complains."""
    buffer = io.BytesIO()
    Image.new("1", (400, 400)).save(buffer, "TIFF", compression="group4")
    data = bytearray(buffer.getvalue())
    data[8:40] = np.random.default_rng(1).bytes(32)
    return bytes(data)


def test_complaints_of_libraries_are_counted_by_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        (folder / f"fax{number}.tif").write_bytes(broken_fax() + bytes(number))
    paint(folder / "good.png", 1)
    report = fill(Gallery.create(tmp_path / "g.cies"), folder, "color", StandIn())
    assert "Fax" not in capfd.readouterr().err
    assert report.embedded == 6
    (remark,) = report.remarks
    assert remark.files == 5
    assert remark.reason.startswith("a decoder reported: Fax4Decode: ")
    assert "at line N of strip N" in remark.reason
    assert [Path(path).name for path in remark.examples] == [
        "fax0.tif",
        "fax1.tif",
        "fax2.tif",
    ]


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_copies_are_counted_the_same_in_every_run(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.fill.commit_queue.BATCH", batch)
    monkeypatch.setattr("ingest.fill.commit_queue.FIRST_BATCH", batch)
    folder = tmp_path / "in"
    for number in range(20):
        paint(folder / f"{number:02}.png", number % 5)
    report = fill(Gallery.create(tmp_path / "g.cies"), folder, "color", StandIn())
    assert (report.embedded, report.known, report.found) == (5, 15, 20)

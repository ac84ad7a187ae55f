"""All kinds of unusual files together, among good pictures."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from support.commands import run
from support.encoded import encoded, png_header, ramp
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from indexes.store.gallery import Gallery
from ingest.read.images import FileBytes, decode, read_bytes


def text_bomb() -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    text = b"Comment\0\0" + zlib.compress(bytes(100_000_000))
    pixels = chunk(b"IDAT", zlib.compress(bytes(20)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"zTXt", text)
        + pixels
        + chunk(b"IEND", b"")
    )


def zoo() -> dict[str, tuple[bytes, str]]:
    """File name to content and the expected outcome."""
    jpeg, png = encoded(ramp(400, 300), "JPEG"), encoded(ramp(400, 300), "PNG")
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    broken_crc = bytearray(encoded(Image.fromarray(noise), "PNG"))
    broken_crc[60_000] ^= 1
    deep = Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(8, axis=0))
    animation = io.BytesIO()
    frames = [ramp().rotate(90 * n) for n in range(4)]
    frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"just some text", "not_an_image"),
        "page.jpg": (b"<!doctype html><html>", "not_an_image"),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        "paper.jpg": (b"%PDF-1.7\n%\xe2\xe3", "not_an_image"),
        "film.jpg": (b"\0\0\0\x18ftypmp42" + bytes(200), "not_an_image"),
        "zeros.jpg": (bytes(5000), "not_an_image"),
        "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        "cut10.jpg": (jpeg[:10], "truncated"),
        "cut200.jpg": (jpeg[:200], "truncated"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "almost.jpg": (jpeg[:-2], "truncated"),
        "half.png": (png[: len(png) // 2], "truncated"),
        "crc.png": (bytes(broken_crc), "damaged"),
        "textbomb.png": (text_bomb(), "done"),
        "bomb.png": (png_header(20_000, 20_000), "bomb"),
        "hugebomb.png": (png_header(60_000, 60_000), "bomb"),
        "warned.png": (png_header(12_000, 10_000), "bomb"),
        "astronomic.png": (png_header(2**31 - 1, 2**31 - 1), "bomb"),
        "nowidth.png": (png_header(0, 9), "not_an_image"),
        "thin.png": (encoded(Image.new("RGB", (1, 3000)), "PNG"), "outlandish"),
        "phone.heic": (b"\0\0\0\x1cftypheic" + bytes(400), "not_an_image"),
        "raw.cr2": (b"II*\0" + bytes(40), "damaged"),
        "layers.psd": (b"8BPS", "unsupported"),
        # Unusual, but pictures.
        "png.jpg": (png, "done"),
        "junk.jpg": (encoded(ramp(90, 60), "JPEG") + b"junk after the end", "done"),
        "hole.jpg": (jpeg[:6000] + bytes(40) + jpeg[6040:], "done"),
        "cmyk.jpg": (encoded(ramp(50, 40).convert("CMYK"), "JPEG"), "done"),
        "lab.tif": (encoded(ramp(50, 40).convert("LAB"), "TIFF"), "done"),
        "bits.png": (encoded(ramp(51, 40).convert("1"), "PNG"), "done"),
        "la.png": (encoded(ramp(52, 40).convert("LA"), "PNG"), "done"),
        "palette.png": (encoded(ramp(53, 40).convert("P"), "PNG"), "done"),
        "deep.png": (encoded(deep, "PNG"), "done"),
        "moving.gif": (animation.getvalue(), "done"),
        "turned.jpg": (encoded(ramp(54, 40), "JPEG", exif=exif), "done"),
        "garbage-exif.jpg": (encoded(ramp(55, 40), "JPEG", exif=b"Exif\0\0garbage"), "done"),
        "one.png": (encoded(Image.new("RGB", (1, 1), "red"), "PNG"), "done"),
        "clear.png": (encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), "PNG"), "done"),
        "modern.avif": (encoded(ramp(56, 40), "AVIF"), "done"),
        "modern.webp": (encoded(ramp(57, 40), "WEBP"), "done"),
        "-rf.jpg": (encoded(ramp(58, 40), "JPEG"), "done"),
        "emoji \U0001f600 'quote\" $(x).png": (encoded(ramp(59, 40), "PNG"), "done"),
        "new\nline.png": (encoded(ramp(60, 40), "PNG"), "done"),
        "n" * 240 + ".png": (encoded(ramp(61, 40), "PNG"), "done"),
    }


def test_the_zoo_among_good_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(100):
        paint(folder / f"good{number:03}.png", number)
    animals = zoo()
    for name, (data, _) in animals.items():
        (folder / name).write_bytes(data)
    bad_name = os.path.join(os.fsencode(folder), b"\xff\xfe.png")
    Path(os.fsdecode(bad_name)).write_bytes(encoded(ramp(62, 40), "PNG"))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link.jpg").symlink_to("/etc/passwd")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "around").symlink_to(folder, target_is_directory=True)
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)
    listener.bind("socket.jpg")
    os.chdir(here)
    gallery = Gallery.create(tmp_path / "gallery")
    before = psutil.Process().memory_info().rss
    started = time.monotonic()
    report = fill(gallery, folder, "color", StandIn())
    spent = time.monotonic() - started
    listener.close()
    want = {name: status for name, (_, status) in animals.items() if status != "done"}
    want |= {"pipe.jpg": "not_a_file", "link.jpg": "link", "loop.jpg": "link", "gone.jpg": "link"}
    want["socket.jpg"] = "unreadable"
    got = {Path(record.path).name: record.status for record in report.failed}
    assert got == want
    assert all(record.reason for record in report.failed)
    stored = {str(gallery.absolute(p).name) for paths in gallery.paths().values() for p in paths}
    good = {name for name, (_, status) in animals.items() if status == "done"}
    assert good | {os.fsdecode(b"\xff\xfe.png")} <= stored and len(stored) == 101 + len(good)
    assert report.embedded == len(gallery.paths())
    # The memory of this test only; the process also holds what earlier tests left.
    taken = psutil.Process().memory_info().rss - before
    assert spent < 20 + 10 and taken < 2**30
    # The lists are valid for all names.
    shown = run("status", "--failed", "--json", "-g", gallery.path)
    document = json.loads(shown.stdout)
    assert {Path(r["path"]).name: r["status"] for r in document["failed"]} == want
    assert sum(document["failed_by_status"].values()) == len(want)
    listed = run("status", "--failed", "-g", gallery.path)
    assert len(listed.stdout.splitlines()) == 1 + len(want)
    # No file is tried again until it changes.
    again = fill(gallery, folder, "", StandIn())
    assert (again.embedded, len(again.failed)) == (0, len(want))
    (folder / "text.jpg").write_bytes(encoded(ramp(63, 40), "JPEG"))
    better = fill(gallery, folder, "", StandIn())
    assert (better.embedded, len(better.failed)) == (1, len(want) - 1)


def test_a_summary_by_reason(tmp_path: Path, world: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(25):
        (folder / f"{number}.jpg").write_bytes(b"text" if number % 2 else b"")
    (folder / "a.jpg").write_bytes((world / "images" / "00001.jpg").read_bytes())
    done = run("ingest", folder, "-g", tmp_path / "g", "-c", "color")
    assert done.returncode == 0, done.stderr
    assert "Unreadable: 13 empty, 12 not_an_image." in done.stderr
    assert "and 5 more; `cies status --failed` lists all of them." in done.stderr


@pytest.mark.parametrize("change", ["deleted", "cut", "replaced", "grown"])
def test_files_that_change_between_scan_and_read(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    paths = [paint(folder / f"{number}.png", number) for number in range(5)]
    victim = paths[2]
    other = encoded(Image.fromarray(np.full((20, 20, 3), 77, dtype=np.uint8)), "PNG")

    def late(path: Path) -> FileBytes:
        if path == victim and not done:
            done.append(True)
            data = path.read_bytes()
            if change == "deleted":
                path.unlink()
            else:
                changed = {"cut": data[:60], "replaced": other, "grown": data + b"more"}
                path.write_bytes(changed[change])
        return read_bytes(path)

    done: list[bool] = []
    # The file changes at the moment when its bytes are read.
    from ingest.sources import folders

    monkeypatch.setattr(folders, "read_bytes", late)
    gallery = Gallery.create(tmp_path / "gallery")
    encoder = StandIn()
    report = fill(gallery, folder, "color", encoder)
    assert done
    bad = {"deleted": "vanished", "cut": "truncated"}
    assert [r.status for r in report.failed] == ([bad[change]] if change in bad else [])
    # The stored key is that of the bytes that were embedded.
    column = gallery.column(gallery.conditions()[0])
    vectors = dict(zip(column.keys, column.vectors, strict=True))
    for path in folder.iterdir():
        content = read_bytes(path)
        if content.key in vectors:
            want = encoder.vector(decode(content.data).image, "color")
            assert np.abs(vectors[content.key] - want).max() < 1e-3
    assert len(vectors) == (5 if change in ("replaced", "grown") else 4)


REFERENCE = np.array([[[200, 40, 90], [10, 250, 60]], [[128, 128, 128], [0, 0, 255]]], np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L", "I;16", "1", "LA"])
def test_colours_against_a_reference(mode: str) -> None:
    """Mean difference below 2 of 255 from the picture computed by plain arithmetic."""
    big = np.kron(REFERENCE, np.ones((40, 60, 1), np.uint8))
    grey = np.round(big @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    rgb = Image.fromarray(big)
    want = big.astype(float)
    form = "PNG"
    if mode == "RGBA":
        alpha = np.linspace(0, 255, big.shape[1])[None, :].repeat(big.shape[0], axis=0)
        alpha = np.round(alpha)
        image = Image.fromarray(np.dstack([big, alpha.astype(np.uint8)]))
        share = alpha[..., None] / 255
        want = big * share + 255 * (1 - share)
    elif mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
        want = np.repeat(grey[..., None].astype(float), 3, axis=2)
    elif mode in ("L", "LA"):
        image = Image.fromarray(grey)
        image = image.convert("LA") if mode == "LA" else image
        want = np.repeat(grey[..., None].astype(float), 3, axis=2)
    elif mode == "1":
        flat = np.where(grey > 127, 255, 0).astype(np.uint8)
        image = Image.fromarray(flat).convert("1")
        want = np.repeat(flat[..., None].astype(float), 3, axis=2)
    elif mode == "P":
        image = rgb.quantize(16)
    else:
        image = rgb.convert(mode)
        form = "TIFF" if mode == "CMYK" else "PNG"
    got = np.asarray(decode(encoded(image, form)).image, dtype=float)
    assert np.abs(got - want).mean() < 2

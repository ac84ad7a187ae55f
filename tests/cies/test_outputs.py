"""No option that names an output replaces a file that CIES did not make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.stand_in import StandIn
from support.stand_in_fill import fill, paint

from cies import api
from cies.cli.app import app
from cies.html.contact_sheet import render_page
from eval.benchmarks import tasks_of
from eval.world.gallery import check_world_folder, write_world
from indexes.errors import UsageError
from indexes.outputs import check_output, made_by_cies
from indexes.store.gallery import Gallery
from query.explore.export import export


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of six pictures."""
    folder = tmp_path_factory.mktemp("outputs")
    for number in range(6):
        paint(folder / "p" / f"{number}.png", number)
    fill(Gallery.create(folder / "g"), folder / "p", "color", StandIn())
    return folder / "g"


def command(line: str) -> None:
    app(line.split(), standalone_mode=False)


@pytest.mark.parametrize(
    "content", [b"file,color\na.png,red\n", b"\xff\xd8\xff\xe0 a picture", b"<html>my page</html>"]
)
def test_a_users_file_stays(content: bytes, gallery: Path, tmp_path: Path) -> None:
    query = gallery.parent / "p" / "1.png"
    lines = {
        f"search {query} -g {gallery} -c color -k 3 --html": ("3.jpg", "page.html"),
        f"outliers -g {gallery} -c color -k 3 --html": ("3.jpg", "page.html"),
        f"export -g {gallery} -c color -o": ("labels.csv", "t.parquet", "m.npy"),
    }
    for line, names in lines.items():
        for name in names:
            path = tmp_path / name
            path.write_bytes(content)
            with pytest.raises(UsageError, match=r"CIES did not make it.*--force"):
                command(f"{line} {path}")
            assert path.read_bytes() == content, line
            command(f"{line} {path} --force")
            assert path.read_bytes() != content, line
            if path.suffix != ".jpg":
                # What CIES wrote itself, it writes again.
                command(f"{line} {path}")


def test_the_keys_beside_a_matrix_are_not_replaced(gallery: Path, tmp_path: Path) -> None:
    keys = tmp_path / "m.keys.txt"
    keys.write_text("my notes")
    engine = api.open(gallery)
    with pytest.raises(UsageError, match=r"m\.keys\.txt exists"):
        export(engine, "color", tmp_path / "m.npy")
    assert keys.read_text() == "my notes" and not (tmp_path / "m.npy").exists()


def test_links_devices_and_empty_files(gallery: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("a,b\n1,2\n")
    (tmp_path / "link.csv").symlink_to(mine)
    with pytest.raises(UsageError, match="did not make it"):
        check_output(tmp_path / "link.csv")
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path, force=True)
    (tmp_path / "empty.csv").touch()
    check_output(tmp_path / "empty.csv")
    check_output(Path("/dev/null"))


def test_what_other_programs_write_is_not_taken_for_ours(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((3, 3)))
    others = {
        "a.html": "<!doctype html><title>CIES</title>",
        "a.csv": "path,key\n1,2\n",
        "a.md": "# Notes\n\nI wrote about `cies search`.\n",
        "a.json": '{"version": 1}',
        "a.keys.txt": "key\n",
        "a.qrels": "some words here\n",
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    assert not [name for name in (*others, "m.npy") if made_by_cies(tmp_path / name)]
    ours = tmp_path / "ours.html"
    ours.write_text(render_page("t", "i", "", []))
    assert made_by_cies(ours)


def test_a_folder_of_the_users_pictures_is_no_place_for_a_world(tmp_path: Path) -> None:
    write_world(tmp_path / "w", 1, seed=3, size=32)
    check_world_folder(tmp_path / "w")
    (tmp_path / "mine" / "images").mkdir(parents=True)
    (tmp_path / "mine" / "images" / "00001.jpg").write_bytes(b"mine")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "labels.csv").write_text("file,color\n")
    for name in ("mine", "labels"):
        with pytest.raises(UsageError, match="CIES did not make"):
            check_world_folder(tmp_path / name)
        check_world_folder(tmp_path / name, force=True)
    (tmp_path / "demo" / "gallery").mkdir(parents=True)
    (tmp_path / "demo" / "gallery" / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="is no gallery"):
        command(f"demo --folder {tmp_path / 'demo'}")
    assert (tmp_path / "demo" / "gallery" / "photo.jpg").exists()


def test_a_rendered_benchmark_does_not_mix_with_the_users_pictures(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "00001.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="files that CIES did not make"):
        tasks_of("world", tmp_path, {"pictures": "100"}, False, 3, tmp_path)
    assert (tmp_path / "world" / "00001.jpg").read_bytes() == b"mine"

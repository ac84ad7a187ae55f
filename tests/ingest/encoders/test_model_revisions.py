"""What identifies a model in a folder: its weights, settings and chat templates."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.stand_in_fill import paint

import cies
from indexes.errors import GalleryMismatch
from ingest.encoders.factory import remake_encoder
from ingest.encoders.models import loading

TEMPLATE = "chat_template.jinja"


@pytest.fixture
def model(qwen_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(qwen_folder, tmp_path / "model"))


def test_a_changed_template_is_another_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (model / TEMPLATE).is_file()
    picture = paint(tmp_path / "a.png", 1)
    cies.ingest(tmp_path / "g", [picture], ["color"], model=str(model))
    text = (model / TEMPLATE).read_text()
    (model / TEMPLATE).write_text(text + "{{ 'Be brief.' }}")
    new = paint(tmp_path / "b.png", 2)
    with pytest.raises(GalleryMismatch, match="whose files have changed"):
        cies.open(tmp_path / "g").search(new, "color")
    with pytest.raises(GalleryMismatch, match="whose files have changed"):
        cies.ingest(tmp_path / "g", [new])
    (model / TEMPLATE).write_text(text)
    assert len(cies.open(tmp_path / "g").search(new, "color")) == 1
    # Templates of a name are a folder of their own.
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tool_use.jinja").write_text("x")
    with pytest.raises(GalleryMismatch, match="whose files have changed"):
        cies.open(tmp_path / "g").search(new, "color")


def test_galleries_from_before_templates_counted_stay_valid(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loading.folder_digest
    picture, new = paint(tmp_path / "a.png", 1), paint(tmp_path / "b.png", 2)
    with monkeypatch.context() as earlier:
        earlier.setattr(
            loading, "folder_digest", lambda folder, templates=True: real(folder, False)
        )
        cies.ingest(tmp_path / "g", [picture], ["color"], model=str(model))
    [table] = cies.create(tmp_path / "g").conditions()
    assert table.made_by["revision"] == real(model, False) != real(model)
    assert cies.open(tmp_path / "g").search(new, "color")[0].path.endswith("a.png")
    cies.ingest(tmp_path / "g", [picture, new], ["color", "shape"])
    tables = cies.create(tmp_path / "g").conditions()
    assert [one.made_by["revision"] for one in tables] == [real(model, False)] * 2
    assert tables[0] == table
    # Only the vectors that it continues have that revision.
    assert loading.local_revision(model) == real(model)
    spec = remake_encoder(cies.load_encoder(model=str(model)).spec).spec
    assert spec.revision == real(model)


def test_a_model_with_modules_is_the_same_when_its_gallery_is_opened(
    model: Path, tmp_path: Path
) -> None:
    """Embedding models of today list their modules beside the files of an LVLM."""
    (model / "modules.json").write_text('[{"type": "x.Transformer", "path": ""}]')
    picture, new = paint(tmp_path / "a.png", 1), paint(tmp_path / "b.png", 2)
    cies.ingest(tmp_path / "g", [picture], ["color"], model=str(model))
    assert len(cies.open(tmp_path / "g").search(new, "color")) == 1

"""CIES behind the interfaces of other libraries, compared with CIES itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cies
from cies.integrations.sentence_transformers import ConditionalEncoder
from indexes.errors import UsageError
from ingest.encoders.methods.dior import DiorEncoder


@pytest.fixture(scope="module")
def paths(world: Path) -> list[str]:
    return [str(path) for path in sorted((world / "images").iterdir())[:4]]


@pytest.fixture(scope="module")
def encoder(builtin: DiorEncoder) -> cies.Encoder:
    return cies.Encoder(builtin)


def test_the_prompt_is_the_condition(encoder: cies.Encoder, paths: list[str]) -> None:
    model = ConditionalEncoder(encoder, prompts={"look": "shape"}, default_prompt_name="look")
    color = model.encode(paths, prompt="color")
    assert np.array_equal(color, encoder.encode(paths, "color"))
    assert np.allclose(model.encode(paths[:2]), encoder.encode(paths[:2], "shape"), atol=1e-6)
    mixed = model.encode([{"text": "red heart"}, {"image": paths[0]}], prompt="color")
    assert np.allclose(mixed[0], encoder.encode_text("red heart", "color"), atol=1e-6)
    assert np.allclose(mixed[1], color[0], atol=1e-5)
    assert model.encode(paths[0], prompt="color").shape == (192,)
    assert np.allclose(model.similarity(color, color[0])[:, 0], color @ color[0], atol=1e-6)
    short = model.encode(paths[:2], prompt="color", truncate_dim=16, convert_to_tensor=True)
    assert tuple(short.shape) == (2, 16)
    assert np.allclose(np.linalg.norm(short.numpy(), axis=1), 1, atol=1e-5)
    assert len(model.encode(paths[:2], prompt="color", convert_to_numpy=False)) == 2
    for wrong, message in (
        ({"prompt_name": "none"}, "no prompt 'none'; choose one of look"),
        ({"normalize_embeddings": False}, "have unit length"),
        ({"truncate_dim": 999}, "truncate_dim is 999; give 1 to 192"),
    ):
        with pytest.raises(UsageError, match=message):
            model.encode(paths[:1], **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Item 0 has the keys audio"):
        model.encode([{"audio": "a.wav"}], prompt="color")


def test_lancedb_embeds_under_the_condition(
    encoder: cies.Encoder, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lancedb
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    from cies.integrations import lancedb as integration

    monkeypatch.setitem(integration._LOADED, ("tiny-lvlm", "dior", "auto"), encoder)
    color = get_registry().get("cies").create(model="tiny-lvlm", condition="color")
    annotations: dict[str, Any] = {"path": str, "vector": Vector(color.ndims())}
    fields = {"path": color.SourceField(), "vector": color.VectorField()}
    item = type("Item", (LanceModel,), {"__annotations__": annotations, **fields})
    table = lancedb.connect(str(tmp_path)).create_table("items", schema=item)
    table.add([{"path": path} for path in paths])
    expected = encoder.encode(paths, "color")
    rows = table.to_arrow()
    order = [paths.index(path) for path in rows.column("path").to_pylist()]
    assert np.allclose(np.array(rows.column("vector").to_pylist()), expected[order], atol=1e-5)
    found = table.search({"text": "red heart"}).distance_type("dot").limit(4).to_list()
    cosines = expected @ encoder.encode_text("red heart", "color")
    assert [paths.index(row["path"]) for row in found] == np.argsort(-cosines).tolist()


def test_langchain_retrieves_pictures_as_documents(
    encoder: cies.Encoder, paths: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("langchain_core")
    from cies.integrations.langchain import CiesRetriever

    cies.ingest(tmp_path / "g", paths, ["color"], model=encoder.method)
    g = cies.open(tmp_path / "g", model=encoder.method)
    retriever = CiesRetriever(gallery=g, condition="color", k=2)
    for query in (paths[0], g.vectors("color").keys[0]):
        documents = retriever.invoke(query)
        hits = g.search(query, "color", k=2)
        assert [d.metadata["path"] for d in documents] == [hit.path for hit in hits]
        assert [d.metadata["score"] for d in documents] == [hit.score for hit in hits]
        assert documents[0].page_content == hits[0].word
    found = retriever.invoke("red heart")
    assert [d.metadata["key"] for d in found] == [
        hit.key for hit in g.search_text("red heart", "color", k=2)
    ]

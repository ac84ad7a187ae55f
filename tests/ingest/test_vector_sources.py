"""Vector sources of a gallery: which encoder made which table, and which are partial."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.manifest import MANIFEST_COPY
from indexes.store.records import VectorTable
from ingest.conditions import Condition
from ingest.encoders.base import EncoderSpec
from ingest.fill.vector_sources import (
    base_vector_source,
    chosen_vector_source,
    main_vector_source,
    vector_sources,
)

TINY = EncoderSpec("dior", "tiny-lvlm", "1", {"prompt": "describe"})
QWEN = EncoderSpec("dior", "Qwen/Qwen2.5-VL-3B-Instruct", "a", {"prompt": "describe"})
CLIP = EncoderSpec("clip", "tiny-clip", "1", {})


def table(spec: EncoderSpec, name: str, **more: bool) -> VectorTable:
    return VectorTable(name, 8, spec.made_by(Condition.parse(name)), **more)


def declare(gallery: Gallery, *tables: VectorTable) -> None:
    with gallery.writer() as writer:
        for one in tables:
            writer.declare(one)


def test_vector_sources_are_listed_and_chosen(gallery: Gallery) -> None:
    assert (
        vector_sources(gallery) == []
        and main_vector_source([]) is None
        and base_vector_source(gallery) is None
    )
    with pytest.raises(UsageError, match=r"has: nothing yet.*--method dior --model tiny-lvlm"):
        chosen_vector_source(gallery, "dior:tiny-lvlm")
    declare(gallery, table(CLIP, "unconditional"))
    assert (
        main_vector_source(vector_sources(gallery))
        == base_vector_source(gallery)
        == vector_sources(gallery)[0]
    )
    declare(gallery, table(TINY, "color"), table(QWEN, "color"), table(TINY, "shape"))
    found = vector_sources(gallery)
    assert [(m.spec, [t.name for t in m.tables]) for m in found] == [
        (CLIP, ["unconditional"]),
        (TINY, ["color", "shape"]),
        (QWEN, ["color"]),
    ]
    assert main_vector_source(found) == found[1] and base_vector_source(gallery) == found[0]
    assert chosen_vector_source(gallery, "clip") == found[0]
    assert chosen_vector_source(gallery, "dior:tiny-lvlm") == found[1]
    assert chosen_vector_source(gallery, "dior:Qwen/Qwen2.5-VL-3B-Instruct@main") == found[2]
    assert found[1].table("Colour") == found[1].tables[0] and found[2].table("shape") is None
    with pytest.raises(UsageError, match="dior:tiny-lvlm or dior:Qwen/Qwen2"):
        chosen_vector_source(gallery, "dior")
    with pytest.raises(UsageError, match=r"made by generative .it has: clip:tiny"):
        chosen_vector_source(gallery, "generative")


def test_a_table_is_partial_until_it_is_declared_complete(gallery: Gallery) -> None:
    first, some = table(TINY, "color"), table(TINY, "mood", partial=True)
    declare(gallery, first, some, table(TINY, "shape"))
    copy = gallery.path / MANIFEST_COPY
    # The entry of a complete table has the same form as before partial tables existed.
    entries = {k: v for k, v in json.loads(copy.read_text()).items() if k.startswith("condition:")}
    assert sorted(map(len, entries.values())) == [4, 4, 5]
    for marked in (some, replace(some, filling=True), replace(some, partial=False)):
        declare(gallery, marked)
        read = Gallery.open(gallery.path).conditions()
        assert [t.name for t in read] == ["color", "mood", "shape"]
        assert [t.table for t in read][1] == some.table and read[1] == some
        assert (read[1].partial, read[1].filling) == (marked.partial, marked.filling)
        assert read[1].kept_up == (marked.filling or not marked.partial)
        assert [t.kept_up for t in read][::2] == [True, True]

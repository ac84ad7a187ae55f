"""What a user would write without CIES: transformers and FAISS in thirty lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


class PlainSearch:
    """A folder of pictures, embedded by a CLIP of transformers and searched in a flat index."""

    def __init__(self, model: str, paths: Sequence[Path], batch: int = 32):
        """Load the model, embed all pictures and build the index."""
        import faiss
        import torch
        from transformers import AutoModel, AutoProcessor

        self._torch = torch
        self._model = AutoModel.from_pretrained(model).eval()
        self._processor = AutoProcessor.from_pretrained(model)
        parts = [self._embed(paths[start : start + batch]) for start in range(0, len(paths), batch)]
        self.paths, self.vectors = list(paths), np.concatenate(parts)
        self._index = faiss.IndexFlatIP(self.vectors.shape[1])
        self._index.add(self.vectors)

    def _embed(self, paths: Sequence[Path]) -> Any:
        from PIL import Image

        pictures = [Image.open(path).convert("RGB") for path in paths]
        inputs = self._processor(images=pictures, return_tensors="pt")
        with self._torch.inference_mode():
            found = self._model.get_image_features(**inputs)
        features = getattr(found, "pooler_output", found)
        return torch_unit(features).numpy()

    def search(self, path: Path, k: int) -> list[Path]:
        """The nearest pictures of a picture file, itself included."""
        _, rows = self._index.search(self._embed([path]), k)
        return [self.paths[row] for row in rows[0]]


def torch_unit(features: Any) -> Any:
    """Rows of a tensor at unit length."""
    return features / features.norm(dim=-1, keepdim=True)

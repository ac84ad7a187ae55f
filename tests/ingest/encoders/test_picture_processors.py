"""Image processors without torchvision, against figures of transformers' own ones.

Those need torchvision, which the tests do not have. The figures were computed by their code of
version 5.23, with torch's antialiased interpolation in place of torchvision's call of it.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ingest.encoders.vlm.picture_processors import PICTURE_PROCESSORS


def drawn(width: int, height: int) -> Image.Image:
    """A picture in which every pixel differs from its neighbours."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // width, y * 255 // height, (x * 7 + y * 13) % 256]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("family", "size", "shape", "mean", "spread"),
    [
        ("lfm2_vl", (700, 525), [1, 1024, 768], -0.00339, 0.53222),
        ("lfm2_vl", (333, 1500), [1, 1024, 768], -0.00345, 0.52560),
        ("cohere2_vision", (700, 525), [5, 3, 512, 512], 0.18081, 1.06863),
        ("cohere2_vision", (333, 1500), [4, 3, 512, 512], 0.18056, 1.06207),
        ("llama4", (700, 525), [7, 3, 336, 336], -0.39376, 0.66223),
        ("llama4", (333, 1500), [6, 3, 336, 336], -0.09847, 0.61596),
        ("kimi_k25", (700, 525), [1900, 3, 14, 14], -0.01680, 0.58341),
        ("kimi_k25", (333, 1500), [2592, 3, 14, 14], -0.02055, 0.58613),
    ],
)
def test_tensors_are_those_of_transformers(
    family: str, size: tuple[int, int], shape: list[int], mean: float, spread: float
) -> None:
    values = PICTURE_PROCESSORS[family]({})([drawn(*size)])["pixel_values"].float()
    assert list(values.shape) == shape
    assert float(values.mean()) == pytest.approx(mean, abs=2e-4)
    assert float(values.flatten()[12345:].std()) == pytest.approx(spread, abs=2e-4)


def test_a_picture_is_cut_into_tiles_only_if_asked() -> None:
    for family, switch in (
        ("lfm2_vl", "do_image_splitting"),
        ("cohere2_vision", "crop_to_patches"),
    ):
        processor = PICTURE_PROCESSORS[family]({})
        large = drawn(2000, 1500)
        assert len(processor([large])["pixel_values"]) > 1
        assert len(processor([large], **{switch: False})["pixel_values"]) == 1

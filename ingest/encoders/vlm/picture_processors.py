"""Image processors for families whose own one needs torchvision.

Each computes for one picture what the family's own image processor in transformers computes: the
same sizes, the same grid of tiles, the same layout of the tensors. Pictures are resized as
torchvision resizes them, by torch's antialiased interpolation of 8-bit numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch

#: Pillow's numbers of filters to torch's names.
_FILTERS = {2: "bilinear", 3: "bicubic"}

_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class PictureProcessor(ABC):
    """Turns a picture into the tensors of one family; its attributes are the family's settings."""

    #: Settings with their usual values; a model's preprocessor_config.json may change them.
    SETTINGS: ClassVar[Mapping[str, Any]]

    def __init__(self, settings: Mapping[str, Any]):
        """Use the settings of a model; others than those of :attr:`SETTINGS` are ignored."""
        for name, usual in self.SETTINGS.items():
            value = settings.get(name)
            setattr(self, name, usual if value is None else value)

    @property
    def valid_kwargs(self) -> Any:
        """The settings that a processor of transformers may pass on, as a ``TypedDict``."""
        return TypedDict("Settings", dict.fromkeys(self.SETTINGS, Any), total=False)  # type: ignore[operator]

    def fetch_images(self, images: Any) -> Any:
        """The pictures as they are; a processor of transformers calls this."""
        return images

    def __call__(self, images: Any, **options: Any) -> dict[str, Any]:
        """The tensors of exactly one picture.

        Args:
            images: a list of one RGB picture, or such a list in a list.
            **options: settings for this call; those that the family does not have are ignored.
        """
        picture = images
        while isinstance(picture, Sequence):
            (picture,) = picture
        changed = type(self)({**vars(self), **options})
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        return changed.features(pixels)

    @abstractmethod
    def features(self, pixels: torch.Tensor) -> dict[str, Any]:
        """The tensors of a picture.

        Args:
            pixels: uint8 [3, height, width].
        """

    def _resized(self, pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """uint8 [3, height, width]."""
        if pixels.shape[-2:] == (height, width):
            return pixels
        mode = _FILTERS[int(vars(self)["resample"])]
        return torch.nn.functional.interpolate(
            pixels[None], (height, width), mode=mode, align_corners=False, antialias=True
        )[0]

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 of the same shape: mean 0 and deviation 1 over the pictures of the training."""
        own = vars(self)
        mean, std = (torch.tensor(own[name]).view(-1, 1, 1) for name in ("image_mean", "image_std"))
        scale = 1 / float(own["rescale_factor"])
        return (pixels.float() - mean * scale) / (std * scale)


def _tiles(pixels: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """[3, rows * h, columns * w] as [rows * columns, 3, h, w], row by row."""
    depth, height, width = pixels.shape
    parts = pixels.reshape(depth, rows, height // rows, columns, width // columns)
    return parts.permute(1, 3, 0, 2, 4).reshape(-1, depth, height // rows, width // columns)


def _grids(most: int) -> Iterator[tuple[int, int]]:
    """All numbers of columns and rows of at most ``most`` tiles, fewer tiles first."""
    sides = range(1, most + 1)
    grids = [(columns, rows) for columns in sides for rows in sides if columns * rows <= most]
    return iter(sorted(grids, key=lambda grid: grid[0] * grid[1]))


class Lfm2VlPictures(PictureProcessor):
    """LFM2-VL: patches of a picture whose sides are multiples of a merged patch, padded.

    A large picture is cut into a grid of square tiles, and a small copy of it is added, if
    ``do_image_splitting`` is on.
    """

    SETTINGS = MappingProxyType(
        {
            "downsample_factor": 2,
            "do_image_splitting": True,
            "min_tiles": 2,
            "max_tiles": 10,
            "use_thumbnail": True,
            "min_image_tokens": 64,
            "max_image_tokens": 256,
            "encoder_patch_size": 16,
            "tile_size": 512,
            "max_pixels_tolerance": 2.0,
            "return_row_col_info": False,
            "resample": 2,
            "rescale_factor": 1 / 255,
            "image_mean": _HALF,
            "image_std": _HALF,
        }
    )

    def features(self, pixels: torch.Tensor) -> dict[str, Any]:
        """``pixel_values`` [tiles, patches, values], their mask, and each tile's grid."""
        own: Any = self
        height, width = self._whole_size(*pixels.shape[-2:])
        whole = self._resized(pixels, height, width)
        columns, rows, parts = 1, 1, [whole]
        if own.do_image_splitting and own.max_tiles > 1 and self._is_large(*pixels.shape[-2:]):
            columns, rows = self._grid(*pixels.shape[-2:])
            side = own.tile_size
            parts = list(_tiles(self._resized(pixels, rows * side, columns * side), rows, columns))
            if own.use_thumbnail and len(parts) > 1:
                parts.append(whole)
        most = own.max_image_tokens * own.downsample_factor**2
        if own.do_image_splitting:
            most = max(most, (own.tile_size // own.encoder_patch_size) ** 2)
        values, masks, shapes = [], [], []
        for part in parts:
            patches, shape = self._patches(self._normalised(part))
            mask = torch.zeros(most, dtype=torch.int32)
            mask[: len(patches)] = 1
            values.append(torch.nn.functional.pad(patches, (0, 0, 0, most - len(patches))))
            masks.append(mask)
            shapes.append(shape)
        found: dict[str, Any] = {
            "pixel_values": torch.stack(values),
            "pixel_attention_mask": torch.stack(masks),
            "spatial_shapes": torch.tensor(shapes),
        }
        if own.return_row_col_info:
            found |= {"image_rows": [rows], "image_cols": [columns]}
            found["image_sizes"] = [[height, width]]
        return found

    def _patches(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """[patches, values], each patch pixel by pixel with its three colors; rows and columns."""
        side = int(vars(self)["encoder_patch_size"])
        rows, columns = pixels.shape[1] // side, pixels.shape[2] // side
        return _tiles(pixels, rows, columns).permute(0, 2, 3, 1).flatten(1), [rows, columns]

    def _whole_size(self, height: int, width: int) -> tuple[int, int]:
        """Sides near the picture's, multiples of a merged patch, within the limits of tokens."""
        own: Any = self
        unit = own.encoder_patch_size * own.downsample_factor
        least, most = own.min_image_tokens * unit**2, own.max_image_tokens * unit**2
        sides = [max(unit, round(side / unit) * unit) for side in (height, width)]
        if sides[0] * sides[1] > most:
            shrink = math.sqrt(height * width / most)
            sides = [max(unit, math.floor(s / shrink / unit) * unit) for s in (height, width)]
        elif sides[0] * sides[1] < least:
            grow = math.sqrt(least / (height * width))
            sides = [math.ceil(s * grow / unit) * unit for s in (height, width)]
        return sides[0], sides[1]

    def _is_large(self, height: int, width: int) -> bool:
        own: Any = self
        unit = own.encoder_patch_size * own.downsample_factor
        sides = [max(own.encoder_patch_size, round(s / unit) * unit) for s in (height, width)]
        return bool(sides[0] * sides[1] > own.max_image_tokens * unit**2 * own.max_pixels_tolerance)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Columns and rows whose ratio is nearest to the picture's."""
        own: Any = self
        best, nearest = (1, 1), math.inf
        for columns, rows in _grids(own.max_tiles):
            if columns * rows < own.min_tiles:
                continue
            away = abs(width / height - columns / rows)
            # Of equally near grids, the larger one is taken if the picture has half its pixels.
            enough = height * width > 0.5 * own.tile_size**2 * columns * rows
            if away < nearest or (away == nearest and enough):
                best, nearest = (columns, rows), away
        return best


class Cohere2VisionPictures(PictureProcessor):
    """Command A Vision: square tiles of the grid that needs the least enlargement, and the whole
    picture as one more; only the latter if ``crop_to_patches`` is off.
    """

    SETTINGS = MappingProxyType(
        {
            "size": MappingProxyType({"height": 512, "width": 512}),
            "crop_to_patches": True,
            "max_patches": 12,
            "patch_size": 16,
            "resample": 3,
            "rescale_factor": 1 / 255,
            "image_mean": _CLIP_MEAN,
            "image_std": _CLIP_STD,
        }
    )

    def features(self, pixels: torch.Tensor) -> dict[str, Any]:
        """``pixel_values`` [tiles, 3, height, width], and how many tiles."""
        own: Any = self
        height, width = int(own.size["height"]), int(own.size["width"])
        tiles = self._resized(pixels, height, width)[None]
        columns, rows = 1, 1
        if own.crop_to_patches:
            _, full_height, full_width = pixels.shape
            columns, rows = self._grid(full_height, full_width, height)
        if columns * rows > 1:
            large = self._resized(pixels, rows * height, columns * width)
            tiles = torch.cat([_tiles(large, rows, columns), tiles])
        return {"pixel_values": self._normalised(tiles), "num_patches": [len(tiles)]}

    def _grid(self, height: int, width: int, side: int) -> tuple[int, int]:
        """Columns and rows that a picture must be enlarged the least for, or reduced the least."""
        grids = list(_grids(vars(self)["max_patches"]))
        scales = [min(side * columns / width, side * rows / height) for columns, rows in grids]
        if max(scales) < 1:
            return grids[scales.index(max(scales))]
        return grids[scales.index(min(scale for scale in scales if scale >= 1))]


class Llama4Pictures(PictureProcessor):
    """Llama 4: the picture on a canvas of square tiles, undistorted, and a square copy of it."""

    SETTINGS = MappingProxyType(
        {
            "size": MappingProxyType({"height": 336, "width": 336}),
            "max_patches": 16,
            "resize_to_max_canvas": False,
            "resample": 2,
            "rescale_factor": 1 / 255,
            "image_mean": _HALF,
            "image_std": _HALF,
        }
    )

    def features(self, pixels: torch.Tensor) -> dict[str, Any]:
        """``pixel_values`` bfloat16 [tiles, 3, side, side], and the grid's rows and columns."""
        own: Any = self
        side = int(own.size["height"])
        height, width = pixels.shape[-2:]
        rows, columns = self._grid(height, width, side)
        canvas = [rows * side, columns * side]
        limits = list(canvas)
        if not own.resize_to_max_canvas:
            limits = [min(max(s, side), c) for s, c in zip((height, width), canvas, strict=True)]
        scales = limits[0] / height, limits[1] / width
        if scales[1] < scales[0]:
            fitted = min(math.floor(height * scales[1]), limits[0]), limits[1]
        else:
            fitted = limits[0], min(math.floor(width * scales[0]), limits[1])
        small = self._resized(pixels, max(fitted[0], 1), max(fitted[1], 1))
        below, right = canvas[0] - small.shape[1], canvas[1] - small.shape[2]
        padded = torch.nn.functional.pad(small, (0, right, 0, below))
        tiles = _tiles(padded, rows, columns)
        if rows * columns > 1:
            tiles = torch.cat([tiles, self._resized(pixels, side, side)[None]])
        return {
            "pixel_values": self._normalised(tiles),
            "aspect_ratios": torch.tensor([[rows, columns]]),
        }

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        # In bfloat16, as the model was trained.
        own: Any = self
        mean, std = (
            torch.tensor(values, dtype=torch.bfloat16).view(-1, 1, 1)
            for values in (own.image_mean, own.image_std)
        )
        rescaled: torch.Tensor = pixels.to(torch.bfloat16) * own.rescale_factor
        return (rescaled - mean) / std

    def _grid(self, height: int, width: int, side: int) -> tuple[int, int]:
        """Rows and columns: as little reduction as possible, then as little padding."""
        own: Any = self
        # In the order of the published list, which decides between canvases of equal area.
        shapes: dict[float, list[tuple[int, int]]] = {}
        for count in range(own.max_patches, 0, -1):
            for rows in range(1, count + 1):
                if count % rows == 0:
                    shapes.setdefault(rows / (count // rows), []).append((rows, count // rows))
        grids = [grid for group in shapes.values() for grid in group]
        # In fp32, as published: two scales are equal or not by their last digit.
        sizes = torch.tensor(grids) * side
        scales = torch.minimum(sizes[:, 1] / width, sizes[:, 0] / height)
        larger = scales[scales >= 1]
        if not len(larger):
            scale = scales.max()
        else:
            scale = larger.max() if own.resize_to_max_canvas else larger.min()
        fits = [grid for grid, one in zip(grids, scales, strict=True) if one == scale]
        return min(fits, key=lambda grid: grid[0] * grid[1])


class KimiK25Pictures(PictureProcessor):
    """Kimi K2.5: patches of the picture, never enlarged, padded to multiples of a merged patch."""

    SETTINGS = MappingProxyType(
        {
            "size": MappingProxyType({"max_height": 512, "max_width": 512}),
            "max_patches": 16384,
            "patch_size": 14,
            "merge_size": 2,
            "resample": 3,
            "rescale_factor": 1 / 255,
            "image_mean": _HALF,
            "image_std": _HALF,
        }
    )

    def features(self, pixels: torch.Tensor) -> dict[str, Any]:
        """``pixel_values`` [patches, 3, side, side], and the grid [1, 3]."""
        own: Any = self
        side, most = own.patch_size, int(own.size["max_height"]) * own.patch_size
        height, width = pixels.shape[-2:]
        patches = max(1, height // side) * max(1, width // side)
        scale = min(1.0, math.sqrt(own.max_patches / patches), most / height, most / width)
        small = self._resized(
            pixels, *(min(most, max(1, int(length * scale))) for length in (height, width))
        )
        unit = side * own.merge_size
        below, right = (-length % unit for length in small.shape[-2:])
        whole = self._normalised(torch.nn.functional.pad(small, (0, right, 0, below)))
        rows, columns = whole.shape[1] // side, whole.shape[2] // side
        return {
            "pixel_values": _tiles(whole, rows, columns),
            "image_grid_thw": torch.tensor([[1, rows, columns]]),
        }


#: Model type to its image processor without torchvision.
PICTURE_PROCESSORS: Mapping[str, type[PictureProcessor]] = MappingProxyType(
    {
        "cohere2_vision": Cohere2VisionPictures,
        "kimi_k25": KimiK25Pictures,
        "lfm2_vl": Lfm2VlPictures,
        "llama4": Llama4Pictures,
    }
)

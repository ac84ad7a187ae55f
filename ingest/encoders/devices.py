"""Where a model is run, and in what numbers."""

from __future__ import annotations

import re
from typing import Any

from indexes.errors import ModelError, UsageError
from ingest.encoders.models.catalogue import cpu_has_bf16

#: What a model may compute in; ``auto`` chooses by its size and the device.
DTYPES = ("auto", "float32", "bfloat16", "float16")

#: A device by name, and the ways in which accelerate spreads a model over all there are.
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")

#: Models with fewer parameters run in fp32, where speed is no concern and exactness is free.
_SMALL = 500_000_000


def check_dtype(dtype: str) -> None:
    """Refuse a dtype that models are not run in.

    Raises:
        UsageError: naming those they are.
    """
    if dtype not in DTYPES:
        raise UsageError(f"There is no --dtype '{dtype}'; choose one of {', '.join(DTYPES)}.")


def devices(device: str) -> list[str]:
    """The devices of ``--device``: one, or several of one kind with commas between.

    Raises:
        UsageError: if there is no such device, or they are of several kinds.
        ModelError: if there is no such GPU here.
    """
    names = device.split(",")
    if len(names) == 1:
        return names
    if len({name.partition(":")[0] for name in names}) > 1 or "auto" in names:
        raise UsageError(
            f"--device {device} names several kinds of devices, which round differently; name "
            "several of one kind, such as cuda:0,cuda:1."
        )
    return [device_of(name) for name in names]


def device_of(device: str) -> str:
    """The device asked for, or the best there is.

    Raises:
        UsageError: if there is no such device.
        ModelError: if there is no such GPU here.
    """
    import torch

    if device != "auto":
        if not _DEVICE.fullmatch(device):
            raise UsageError(f"There is no --device '{device}'; give auto, cpu, cuda or mps.")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(
                f"--device {device} was asked for, but this torch sees no GPU; use --device cpu."
            )
        if device.startswith("cuda:") and int(device[5:]) >= torch.cuda.device_count():
            raise ModelError(
                f"--device {device} was asked for, but the GPUs here are numbered from 0 to "
                f"{torch.cuda.device_count() - 1}; name one of them."
            )
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def mapped(device_map: str, device: str) -> str:
    """The kind of device a map fills first.

    Raises:
        UsageError: if there is no such map, or a device is asked for beside it.
        ModelError: if there is no such GPU here.
    """
    if device != "auto":
        raise UsageError(
            f"--device {device} and --device-map {device_map} exclude one another; give one."
        )
    if device_map in _MAPS:
        return device_of("auto")
    if not _DEVICE.fullmatch(device_map):
        raise UsageError(
            f"There is no --device-map '{device_map}'; give {', '.join(_MAPS)} or a device."
        )
    return device_of(device_map)


def dtype_of(dtype: str, model: Any, device: str) -> str:
    """What a model is run in on a device: what is asked for, or what pays there."""
    if dtype != "auto":
        return dtype
    small = sum(parameter.numel() for parameter in model.parameters()) < _SMALL
    if small:
        return "float32"
    if device == "cpu" and not cpu_has_bf16():
        return "float32"
    return "float16" if device == "mps" else "bfloat16"

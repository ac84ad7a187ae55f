"""Devices, dtypes and memory: where a model runs and in which number format."""

from __future__ import annotations

import re
from typing import Any

from indexes.errors import ModelError, UsageError
from ingest.encoders.models.catalogue import cpu_has_bf16

#: Values of ``--dtype``; ``auto`` chooses by the model's size and the device.
DTYPES = ("auto", "float32", "bfloat16", "float16")

_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")

#: Ways in which accelerate spreads a model over all devices.
_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")

#: Models with fewer parameters run in float32: they are fast enough, and it is exact.
SMALL_MODEL_PARAMETERS = 500_000_000

#: Texts of torch's out-of-memory errors on CPUs and Apple GPUs, which have no class of their own.
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory")


def check_dtype(dtype: str) -> None:
    """Refuse an unknown dtype.

    Raises:
        UsageError: naming the known ones.
    """
    if dtype not in DTYPES:
        raise UsageError(f"There is no --dtype '{dtype}'; choose one of {', '.join(DTYPES)}.")


def parse_devices(device: str) -> list[str]:
    """The devices of ``--device``: one, or several of one kind with commas between.

    Raises:
        UsageError: if there is no such device, or they are of several kinds.
        ModelError: if this machine has no such GPU.
    """
    names = device.split(",")
    if len(names) == 1:
        return names
    if len({name.partition(":")[0] for name in names}) > 1 or "auto" in names:
        raise UsageError(
            f"--device {device} names several kinds of devices, which round differently; name "
            "several of one kind, such as cuda:0,cuda:1."
        )
    return [choose_device(name) for name in names]


def choose_device(device: str) -> str:
    """The device asked for; for ``auto`` the best that there is.

    Raises:
        UsageError: if there is no such device.
        ModelError: if this machine has no such GPU.
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


def first_mapped_device(device_map: str, device: str) -> str:
    """The kind of device that a device map fills first.

    Raises:
        UsageError: if there is no such map, or a device is given too.
        ModelError: if this machine has no such GPU.
    """
    if device != "auto":
        raise UsageError(
            f"--device {device} and --device-map {device_map} exclude one another; give one."
        )
    if device_map in _MAPS:
        return choose_device("auto")
    if not _DEVICE.fullmatch(device_map):
        raise UsageError(
            f"There is no --device-map '{device_map}'; give {', '.join(_MAPS)} or a device."
        )
    return choose_device(device_map)


def parameter_count(model: Any) -> int:
    """How many parameters a torch module has."""
    return sum(parameter.numel() for parameter in model.parameters())


def choose_dtype(dtype: str, model: Any, device: str) -> str:
    """The dtype asked for; for ``auto`` the one that suits the model's size and the device."""
    if dtype != "auto":
        return dtype
    if parameter_count(model) < SMALL_MODEL_PARAMETERS:
        return "float32"
    if device == "cpu" and not cpu_has_bf16():
        return "float32"
    return "float16" if device == "mps" else "bfloat16"


def has_other_dtypes(model: Any, dtype: str) -> bool:
    """Whether a torch module keeps some of its numbers in another format than its weights.

    Rotary frequencies, for one, stay float32 in a model that is loaded in bfloat16.
    """
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    numbers = [t for t in tensors if t.is_floating_point() or t.is_complex()]
    return any(tensor.dtype != getattr(torch, dtype) for tensor in numbers)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def free_cached_memory() -> None:
    """Release the memory that torch caches, so that a smaller batch finds room."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()

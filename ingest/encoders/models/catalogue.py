"""Recommended models of the hub, and which of them fit this machine. Imports nothing heavy.

The built-in models are listed in :data:`ingest.encoders.models.find.BUILTIN`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ingest.encoders.vlm.families import Family, family

#: Memory a model needs: a factor of its weights, plus gigabytes for activations.
_WEIGHTS_FACTOR, _ACTIVATIONS = 1.2, 1.5


#: The kinds of models, and what each is for.
LVLM = "lvlm"
KINDS = {
    LVLM: "any condition in words (--method dior)",
    "dual": "words and whole pictures (--method clip)",
    "vision": "likeness and duplicates (--method vision)",
    "embedder": "words, pictures and both (--method embedder)",
    "reranker": "a look at the best hits (--verify, --lvlm)",
}


@dataclass(frozen=True)
class HubModel:
    """One entry of ``configs/models.toml``.

    Attributes:
        name: hub id.
        family: model type of transformers.
        gigabytes: the size of its 16-bit weights, which is the size of the download.
        vector: length of its vectors.
        teraflops: operations for one image under four conditions in one pass, in 10^12.
        licence: as its publisher states it.
        kind: ``lvlm``, ``dual``, ``vision``, ``embedder`` or ``reranker``.
        purpose: what it is good for; empty for large vision-language models.
        preferred: whether it may be recommended.
    """

    name: str
    family: str
    gigabytes: float
    vector: int
    teraflops: float
    licence: str
    kind: str = LVLM
    purpose: str = ""
    preferred: bool = True

    @property
    def commercial(self) -> bool:
        """Whether the licence allows commercial use."""
        return "not for commercial" not in self.licence

    @property
    def family_info(self) -> Family:
        """How its family runs."""
        return family(self.family)


@dataclass(frozen=True)
class Machine:
    """The memory and processor of a computer.

    Attributes:
        memory: gigabytes of main memory; ``None`` if the system does not say.
        gpu: gigabytes of the largest GPU's memory, or 0.
        bf16: whether the processor computes in bf16, so weights can stay 16-bit.
    """

    memory: float | None
    gpu: float
    bf16: bool

    def place(self, model: HubModel) -> str:
        """Where a model can run: ``gpu``, ``cpu``, or empty if it does not fit."""
        if self.gpu >= model.gigabytes * _WEIGHTS_FACTOR + _ACTIVATIONS:
            return "gpu"
        if self.memory is None:
            return ""
        weights = model.gigabytes if self.bf16 else 2 * model.gigabytes
        return "cpu" if self.memory >= weights * _WEIGHTS_FACTOR + _ACTIVATIONS else ""


#: Machines that models are recommended for: one without a GPU, and three sizes of GPUs.
MACHINES = {
    "laptop": Machine(16, 0, bf16=False),
    "8 GB": Machine(32, 8, bf16=True),
    "24 GB": Machine(64, 24, bf16=True),
    "80 GB": Machine(128, 80, bf16=True),
}


def hub_models(kind: str = LVLM) -> tuple[HubModel, ...]:
    """All entries of a kind, smallest first."""
    return tuple(entry for entry in all_models() if entry.kind == kind)


@cache
def all_models() -> tuple[HubModel, ...]:
    """All entries, smallest first."""
    text = resources.files("configs").joinpath("models.toml").read_text(encoding="utf-8")
    entries = [HubModel(name, **entry) for name, entry in tomllib.loads(text).items()]
    return tuple(sorted(entries, key=lambda entry: entry.gigabytes))


def this_machine() -> Machine:
    """Memory and processor of this computer, found without torch."""
    return Machine(_memory(), _gpu_memory(), cpu_has_bf16())


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):  # on Windows, and on systems that do not say
        return None


def cpu_has_bf16() -> bool:
    """Whether the processor computes in bf16 (AVX-512 or AMX)."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:
            flags = file.read()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _gpu_memory() -> float:
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0.0
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    sizes = [line.strip() for line in done.stdout.splitlines()]
    return max((float(size) / 1024 for size in sizes if size.isdigit()), default=0.0)


def recommended(machine: Machine, kind: str = LVLM) -> HubModel | None:
    """The model of a kind to start with: the largest on a GPU, the smallest on a slow CPU.

    A model that is not for commercial use is recommended only if no other one fits.
    """
    models = [model for model in hub_models(kind) if model.preferred]
    placed = [(machine.place(model), model) for model in models if model.commercial]
    if not any(place for place, _ in placed):
        placed = [(machine.place(model), model) for model in models]
    on_gpu = [model for place, model in placed if place == "gpu"]
    on_cpu = [model for place, model in placed if place == "cpu"]
    if on_gpu:
        return on_gpu[-1]
    return on_cpu[0] if on_cpu else None

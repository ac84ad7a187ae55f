"""Sentence encoders: texts to vectors, by a model of sentence-transformers or a dual encoder.

Models of sentence-transformers are read as their ``modules.json`` says, through transformers: a
language model, pooling, dense layers and scaling, which is what nearly all of them are made of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Mapping, Protocol

import torch

from indexes.errors import ModelError
from indexes.search.vectors import Vectors, unit
from ingest.encoders.devices import device_of, dtype_of
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.models.find import (
    OPEN_CLIP,
    ModelSource,
    digest,
    explained,
    find,
    quiet,
    where_of,
)

#: Texts in one forward pass.
_BATCH = 64

#: How the states of a text's tokens become one vector.
_POOLINGS = ("cls", "mean", "max", "lasttoken")


class SentenceEncoder(Protocol):
    """What embeds texts."""

    @property
    def source(self) -> ModelSource:
        """Where it came from."""
        ...

    @property
    def revision(self) -> str:
        """The hub's commit, or a digest of its files."""
        ...

    @property
    def dtype(self) -> str:
        """What it computes in."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [texts, dim], unit rows."""
        ...


def load_sentences(model: str, device: str = "auto") -> SentenceEncoder:
    """Load a sentence encoder.

    Args:
        model: a model of sentence-transformers or a dual encoder: a built-in name,
            ``ORG/NAME[@REVISION]``, or a folder.
        device: one device by name.

    Raises:
        ModelError: if it cannot be had, or has parts that are not known here.
    """
    if model.startswith(OPEN_CLIP):
        return DualEncoder.load(model, device=device)
    path = Path(model).expanduser()
    if path.is_dir() and (path / "modules.json").is_file():
        # Its language model may be in a folder below.
        source = ModelSource(str(path.absolute()), str(path.absolute()), None, local=True)
    else:
        source = find(model)
    quiet()
    with explained(source):
        described = _file(source, "modules.json")
        if described is None:
            return DualEncoder.load(model, device=device)
        # The hub's cache keeps each commit in a folder of its own.
        revision = digest(described.parent) if source.local else described.parent.name
        modules = json.loads(described.read_bytes())
        return _SentenceModel(source, revision, modules, device_of(device))


def _file(source: ModelSource, name: str) -> Path | None:
    """A file of a model, or ``None`` if it has none of this name."""
    if source.local:
        path = Path(source.location) / name
        return path if path.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(
        source.location,
        name,
        _raise_exceptions_for_missing_entries=False,
        # Out of reach, what is not in the cache is taken not to be there.
        _raise_exceptions_for_connection_errors=False,
        **where_of(source),
    )
    return None if found is None else Path(str(found))


class _SentenceModel:
    """A model of sentence-transformers, in fp32 or what pays for one of its size."""

    def __init__(
        self,
        source: ModelSource,
        revision: str,
        modules: Sequence[Mapping[str, Any]],
        device: str,
    ):
        self.source = source
        self.revision = revision
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        unknown = set(kinds) - {"Transformer", "Pooling", "Dense", "Normalize"}
        if unknown or kinds[:2] != ["Transformer", "Pooling"]:
            raise ModelError(
                f"{source.name} is made of {', '.join(kinds)}, and only a Transformer, Pooling, "
                "Dense and Normalize are known here; name another sentence encoder, such as "
                "sentence-transformers/sentence-t5-base, or tiny-clip."
            )
        paths = [str(module.get("path", "")) for module in modules]
        self._read_language_model(paths[0])
        self.dtype = dtype_of("auto", self._model, device)
        self._kind = getattr(torch, self.dtype)
        self._model.to(device=device, dtype=self._kind)
        self._pooling = self._pooling_of(paths[1])
        self._dense = [
            self._dense_of(path).to(device=device, dtype=self._kind)
            for kind, path in zip(kinds, paths, strict=True)
            if kind == "Dense"
        ]
        if source.local:
            # Its parts lie in folders below, which count as much.
            below = sorted({p for p in paths if p and (Path(source.location) / p).is_dir()})
            self.revision = "-".join(
                [self.revision, *(digest(Path(source.location) / p)[:8] for p in below)]
            )

    def _read_language_model(self, path: str) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

        where: dict[str, Any] = {**where_of(self.source)}
        if path:
            where["subfolder"] = path
        location = self.source.location
        config = AutoConfig.from_pretrained(location, **where)
        kind = T5EncoderModel if config.model_type == "t5" else AutoModel
        self._model = kind.from_pretrained(
            location, dtype="auto", use_safetensors=True, **where
        ).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(location, **where)
        settings = self._settings(path, "sentence_bert_config.json")
        places = getattr(config, "max_position_embeddings", None)
        longest = settings.get("max_seq_length") or min(
            self._tokenizer.model_max_length, places or 512
        )
        self._longest = int(longest)
        self._small_letters = bool(settings.get("do_lower_case", False))

    def _settings(self, path: str, name: str) -> dict[str, Any]:
        file = _file(self.source, f"{path}/{name}" if path else name)
        return {} if file is None else dict(json.loads(file.read_bytes()))

    def _pooling_of(self, path: str) -> str:
        settings = self._settings(path, "config.json")
        chosen = [
            name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for name, value in settings.items()
            if name.startswith("pooling_mode_") and value is True
        ]
        if isinstance(settings.get("pooling_mode"), str):
            chosen = [settings["pooling_mode"]]
        if len(chosen) != 1 or chosen[0] not in _POOLINGS:
            raise ModelError(
                f"{self.source.name} pools by {' and '.join(chosen) or 'nothing'}, and only "
                f"{', '.join(_POOLINGS)} are known here; name another sentence encoder."
            )
        return chosen[0]

    def _dense_of(self, path: str) -> torch.nn.Module:
        from safetensors.torch import load_file

        settings = self._settings(path, "config.json")
        weights = _file(self.source, f"{path}/model.safetensors")
        if weights is None:
            raise ModelError(
                f"{self.source.name} has no safetensors weights in {path}, and other formats can "
                "run code when loaded; convert them to safetensors, or name another model."
            )
        loaded = {k.removeprefix("linear."): v for k, v in load_file(weights).items()}
        linear = torch.nn.Linear(
            settings["in_features"], settings["out_features"], settings.get("bias", True)
        )
        linear.load_state_dict(loaded)
        activation = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
        if activation not in ("Identity", "Tanh", "ReLU", "GELU"):
            raise ModelError(
                f"{self.source.name} has a dense layer with {activation}, which is not known "
                "here; name another sentence encoder."
            )
        return torch.nn.Sequential(linear, getattr(torch.nn, activation)()).eval()

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.encode_texts(["x"]).shape[1])

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [texts, dim], unit rows; what is longer than the model reads is
        cut off.
        """
        found = []
        for start in range(0, len(texts), _BATCH):
            some = list(texts[start : start + _BATCH])
            if self._small_letters:
                some = [text.lower() for text in some]
            with torch.inference_mode():
                found.append(self._embed(some).float().cpu())
        return unit(torch.cat(found).numpy())

    def _embed(self, texts: list[str]) -> torch.Tensor:
        given = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_tensors="pt",
        ).to(self._model.device)
        states = self._model(**given).last_hidden_state
        mask = given["attention_mask"][..., None].to(states.dtype)
        vectors: torch.Tensor
        if self._pooling == "mean":
            vectors = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        elif self._pooling == "max":
            vectors = states.masked_fill(mask == 0, -torch.inf).max(1).values
        else:
            # Wherever the padding is: the first or the last place that is none.
            places = torch.arange(mask.shape[1], device=states.device)
            own = places * given["attention_mask"]
            if self._pooling == "cls":
                own = -(places + mask.shape[1] * (1 - given["attention_mask"]))
            rows = torch.arange(len(texts), device=states.device)
            vectors = states[rows, own.argmax(1)]
        for dense in self._dense:
            vectors = dense(vectors)
        return vectors

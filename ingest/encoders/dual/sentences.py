"""Sentence encoders: texts to vectors, by a model of sentence-transformers or a dual encoder.

A model of sentence-transformers is loaded with transformers, following its ``modules.json``: a
language model, pooling, dense layers and normalisation, which covers nearly all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from indexes.errors import ModelError
from indexes.vectors import Vectors, unit
from ingest.encoders.devices import choose_device, choose_dtype, has_other_dtypes
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.models.find import OPEN_CLIP, ModelSource, find_model, read_json
from ingest.encoders.models.loading import local_revision, read_modules
from ingest.encoders.models.pretrained import (
    build_empty,
    library_call,
    load_config,
    load_pretrained,
    model_file,
    silence_libraries,
)
from ingest.encoders.models.probe import check_vectors
from ingest.encoders.models.trust import pinned

#: Texts in one forward pass.
_BATCH = 64

#: Supported ways to combine the states of a text's tokens into one vector.
_POOLINGS = ("cls", "mean", "max", "lasttoken")


def load_sentences(
    model: str, device: str = "auto", rounded: bool = False
) -> DualEncoder | SentenceModel:
    """Load a sentence encoder.

    Args:
        model: a model of sentence-transformers or a dual encoder: a built-in name,
            ``ORG/NAME[@REVISION]``, or a folder.
        device: one device by name.
        rounded: as for :func:`ingest.encoders.models.loading.load_model`.

    Raises:
        ModelError: if it cannot be loaded, or has unsupported modules.
    """
    if model.startswith(OPEN_CLIP):
        return DualEncoder.load(model, device=device, rounded=rounded)
    path = Path(model).expanduser()
    if path.is_dir() and (path / "modules.json").is_file():
        # Its language model may be in a subfolder, without a config.json here.
        source = ModelSource(str(path.absolute()), str(path.absolute()), None, local=True)
    else:
        source = pinned(find_model(model))
    silence_libraries()
    modules_file = model_file(source, "modules.json")
    if modules_file is None:
        return DualEncoder.load(model, device=device, rounded=rounded)
    # The hub's cache has a folder for each commit.
    folder = modules_file.parent
    revision = local_revision(folder) if source.local else folder.name
    modules = read_modules(modules_file)
    return SentenceModel(source, revision, modules, choose_device(device), rounded)


class SentenceModel:
    """A model of sentence-transformers, in the dtype that suits its size."""

    def __init__(
        self,
        source: ModelSource,
        revision: str,
        modules: Sequence[Mapping[str, Any]],
        device: str,
        rounded: bool = False,
    ):
        """Load the modules.

        Args:
            source: where the model comes from.
            revision: the hub's commit, or a digest of the folder's files.
            modules: the content of ``modules.json``.
            device: one device by name.
            rounded: as for :func:`ingest.encoders.models.loading.load_model`.

        Raises:
            ModelError: if a module is not supported.
        """
        self.source = source
        self.revision = revision
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        unknown = set(kinds) - {"Transformer", "Pooling", "Dense", "Normalize"}
        if unknown or kinds[:2] != ["Transformer", "Pooling"]:
            raise ModelError(
                f"{source.name} is made of {', '.join(kinds)}, and only Transformer, Pooling, "
                "Dense and Normalize are supported; name another sentence encoder, such as "
                "sentence-transformers/sentence-t5-base, or tiny-clip."
            )
        paths = [str(module.get("path", "")) for module in modules]
        self._load_language_model(paths[0], device, rounded)
        dtype = getattr(torch, self.dtype)
        self._pooling = self._load_pooling(paths[1])
        self._dense = [
            self._load_dense(path).to(device=device, dtype=dtype)
            for kind, path in zip(kinds, paths, strict=True)
            if kind == "Dense"
        ]
        with library_call(source), torch.inference_mode():
            check_vectors(self._embed(["a picture"]), source)

    def _load_language_model(self, path: str, device: str, rounded: bool) -> None:
        from transformers import AutoModel, AutoTokenizer, T5EncoderModel

        source = self.source
        part = {"subfolder": path} if path else {}
        config = load_config(source, **part)
        kind = T5EncoderModel if config.model_type == "t5" else AutoModel
        self.dtype = choose_dtype("auto", build_empty(kind, source, config), device)
        dtype = getattr(torch, self.dtype)
        self._model = load_pretrained(
            kind,
            source,
            dtype="auto" if rounded else dtype,
            use_safetensors=True,
            **part,
        ).eval()
        if rounded:
            self._model.to(dtype=dtype)
        with library_call(source):  # memory may run out
            self._model.to(device=device)
        #: Whether some of its numbers stay in another format than its weights.
        self.mixed = self.dtype != "float32" and has_other_dtypes(self._model, self.dtype)
        self._tokenizer = load_pretrained(AutoTokenizer, source, **part)
        settings = self._settings(path, "sentence_bert_config.json")
        positions = getattr(config, "max_position_embeddings", None)
        max_tokens = settings.get("max_seq_length") or min(
            self._tokenizer.model_max_length, positions or 512
        )
        self._max_tokens = int(max_tokens)
        self._lower_case = bool(settings.get("do_lower_case", False))

    def _settings(self, path: str, name: str) -> dict[str, Any]:
        file = model_file(self.source, f"{path}/{name}" if path else name)
        return {} if file is None else read_json(file)

    def _load_pooling(self, path: str) -> str:
        settings = self._settings(path, "config.json")
        modes = [
            name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for name, value in settings.items()
            if name.startswith("pooling_mode_") and value is True
        ]
        if isinstance(settings.get("pooling_mode"), str):
            modes = [settings["pooling_mode"]]
        if len(modes) != 1 or modes[0] not in _POOLINGS:
            raise ModelError(
                f"{self.source.name} pools by {' and '.join(modes) or 'nothing'}, and only "
                f"{', '.join(_POOLINGS)} are supported; name another sentence encoder."
            )
        return modes[0]

    def _load_dense(self, path: str) -> torch.nn.Module:
        from safetensors.torch import load_file

        settings = self._settings(path, "config.json")
        weights_file = model_file(self.source, f"{path}/model.safetensors")
        if weights_file is None:
            raise ModelError(
                f"{self.source.name} has no safetensors weights in {path}, and other formats can "
                "run code when loaded; convert them to safetensors, or name another model."
            )
        with library_call(self.source):
            weights = {k.removeprefix("linear."): v for k, v in load_file(weights_file).items()}
            linear = torch.nn.Linear(
                settings["in_features"], settings["out_features"], settings.get("bias", True)
            )
            linear.load_state_dict(weights)
        activation = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
        if activation not in ("Identity", "Tanh", "ReLU", "GELU"):
            raise ModelError(
                f"{self.source.name} has a dense layer with {activation}, which is not "
                "supported; name another sentence encoder."
            )
        return torch.nn.Sequential(linear, getattr(torch.nn, activation)()).eval()

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.encode_texts(["x"]).shape[1])

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [texts, dim], unit rows; texts too long are truncated."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        rows = []
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            if self._lower_case:
                batch = [text.lower() for text in batch]
            with torch.inference_mode():
                rows.append(self._embed(batch).float().cpu())
        return unit(torch.cat(rows).numpy())

    def _embed(self, texts: list[str]) -> torch.Tensor:
        inputs = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self._model.device)
        states = self._model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        vectors: torch.Tensor
        if self._pooling == "mean":
            vectors = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        elif self._pooling == "max":
            vectors = states.masked_fill(mask == 0, -torch.inf).max(1).values
        else:
            # The first or last token that is not padding, on whichever side the padding is.
            positions = torch.arange(mask.shape[1], device=states.device)
            rank = positions * inputs["attention_mask"]
            if self._pooling == "cls":
                rank = -(positions + mask.shape[1] * (1 - inputs["attention_mask"]))
            rows = torch.arange(len(texts), device=states.device)
            vectors = states[rows, rank.argmax(1)]
        for dense in self._dense:
            vectors = dense(vectors.to(next(dense.parameters()).dtype))
        return vectors

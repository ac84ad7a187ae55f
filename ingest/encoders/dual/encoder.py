"""Dual encoders: pictures and texts in one space, as CLIP (Radford et al., ICML 2021) has them.

What the other methods stand on. A picture's vector knows no condition; what a condition makes of
it is worked out from vectors of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Mapping, Protocol

import torch
from PIL import Image

from indexes.errors import ModelError
from indexes.search.vectors import Vectors, unit
from ingest.encoders.devices import check_dtype, device_of, dtype_of
from ingest.encoders.memory import ran_out, release
from ingest.encoders.models.find import (
    OPEN_CLIP,
    ModelSource,
    commit_of,
    digest,
    explained,
    find,
    quiet,
    where_of,
)
from ingest.read.prefetch import ahead

#: Pictures and texts in one forward pass, until memory runs out for so many.
_BATCH = 64

#: What a model is given: its arguments' names to tensors.
Given = Mapping[str, torch.Tensor]


class Towers(Protocol):
    """The two halves of a dual encoder, whoever made it."""

    @property
    def model(self) -> Any:
        """The torch module of both."""
        ...

    def prepare(self, images: Sequence[Image.Image]) -> Given:
        """RGB pictures to what the one half takes; called from several threads."""
        ...

    def tokens(self, texts: Sequence[str]) -> Given:
        """Texts to what the other half takes, cut to what it reads."""
        ...

    def see(self, given: Given) -> torch.Tensor:
        """Vectors of prepared pictures: [n, dim], of any length."""
        ...

    def read(self, given: Given) -> torch.Tensor:
        """Vectors of texts' tokens: [n, dim], of any length."""
        ...


class DualEncoder:
    """A model that embeds pictures and texts so that those that belong together are near."""

    def __init__(self, source: ModelSource, towers: Towers, revision: str, dtype: str):
        """Use a loaded model; :meth:`load` does both.

        Args:
            source: where the model came from.
            towers: the model.
            revision: the hub's commit, or a digest of the files or weights.
            dtype: what it computes in.
        """
        self.source = source
        self.revision = revision
        self.dtype = dtype
        self._towers = towers
        self._batch = _BATCH
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="preparer")
        self._dimension: int | None = None

    @classmethod
    def load(cls, model: str, dtype: str = "auto", device: str = "auto") -> DualEncoder:
        """Load a model by name.

        Args:
            model: CLIP, SigLIP or another of transformers that embeds pictures and texts: a
                built-in name, ``ORG/NAME[@REVISION]``, or a folder; or ``open_clip:ARCH/WEIGHTS``
                or ``open_clip:FOLDER`` for one that open_clip loads.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

        Raises:
            ModelError: if it cannot be had or embeds no texts.
            UsageError: if there is no such dtype or device.
        """
        check_dtype(dtype)
        chosen = device_of(device)
        if model.startswith(OPEN_CLIP):
            from ingest.encoders.dual.open_clip import load

            source, other, revision, kind = load(model, dtype, chosen)
            return cls(source, other, revision, kind)
        source = find(model)
        quiet()
        with explained(source):
            towers = _load(source)
            kind = dtype_of(dtype, towers.model, chosen)
            towers.model.to(device=chosen, dtype=getattr(torch, kind))
        revision = digest(Path(source.location)) if source.local else commit_of(source)
        return cls(source, towers, revision, kind)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        if self._dimension is None:
            # Every family keeps it elsewhere in its settings, and all can be asked.
            self._dimension = self._features(self._towers.tokens(["x"]), self._towers.read).shape[1]
        return self._dimension

    @property
    def towers(self) -> Towers:
        """The model's two halves."""
        return self._towers

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = next(self._towers.model.parameters()).device
        return device

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed pictures: float32 [images, dim], unit rows.

        Raises:
            ModelError: if there is no memory for a single one.
        """
        return self._embed(images, self._towers.prepare, self._towers.see)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [texts, dim], unit rows; what is longer than the model reads is
        cut off, as these models were trained.

        Raises:
            ModelError: if there is no memory for a single one.
        """
        return self._embed(texts, self._towers.tokens, self._towers.read)

    def cut(self, text: str) -> str:
        """A text as far as the model reads it; the text itself if it reads all of it.

        Words for which it has no token are not read, nor is what comes after the longest text
        that it takes.
        """

        def tokens(words: Sequence[str]) -> list[list[int]]:
            found: list[list[int]] = self._towers.tokens([" ".join(words)])["input_ids"].tolist()
            return found

        # What nobody writes has no token, unless bytes have.
        unknown = tokens(["\ue000"])
        words = text.split()
        read = [word for word in words if tokens([word]) != unknown]
        whole = tokens(read)
        # What is not read makes no difference when it is left out.
        while len(read) > 1 and tokens(read[:-1]) == whole:
            read = read[:-1]
        return text if read == words else " ".join(read)

    def _embed(
        self,
        items: Sequence[Any],
        prepare: Callable[[Sequence[Any]], Given],
        features: Callable[[Given], torch.Tensor],
    ) -> Vectors:
        """Embed in batches; the next is prepared while the model is at work on one."""
        if not items:
            return unit(torch.zeros(0, self.dimension).numpy())
        starts = range(0, len(items), self._batch)
        batches = [items[start : start + starts.step] for start in starts]
        found = [
            self._in_parts(given, features) for given in ahead(self._preparer, prepare, batches, 2)
        ]
        return unit(torch.cat(found).numpy())

    def _in_parts(self, given: Given, features: Callable[[Given], torch.Tensor]) -> torch.Tensor:
        """Run what was prepared; a batch for which memory runs out is halved, and stays so."""
        count = len(next(iter(given.values())))
        found, start = [], 0
        while start < count:
            size = min(self._batch, count - start)
            part = {name: value[start : start + size] for name, value in given.items()}
            try:
                found.append(self._features(part, features))
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
                if size == 1:
                    raise ModelError(
                        f"There is not enough memory for {self.source.name} to embed a single "
                        "picture or text; give a smaller --model, or --device cpu."
                    ) from error
                self._batch = size // 2
                release()
                continue
            start += size
        return torch.cat(found)

    def _features(self, given: Given, features: Callable[[Given], torch.Tensor]) -> torch.Tensor:
        own = next(self._towers.model.parameters())
        moved = {
            name: value.to(own.device, own.dtype if value.is_floating_point() else None)
            for name, value in given.items()
        }
        with torch.inference_mode():
            return features(moved).float().cpu()


class _TransformersTowers:
    """A dual encoder of transformers, with its processor's parts.

    The parts are taken by themselves, because some processors do not build without torchvision;
    pictures are prepared by Pillow everywhere, so that vectors do not hang on what is installed.
    """

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any):
        self.model = model
        self._image_processor = image_processor
        self._tokenizer = tokenizer
        self._siglip = "siglip" in model.config.model_type
        text = getattr(model.config, "text_config", model.config)
        places = getattr(text, "max_position_embeddings", tokenizer.model_max_length)
        self._longest = int(min(places, tokenizer.model_max_length))

    def prepare(self, images: Sequence[Image.Image]) -> Given:
        given: Given = self._image_processor(images=list(images), return_tensors="pt")
        return given

    def tokens(self, texts: Sequence[str]) -> Given:
        return self._wanted(self._tokenized(texts))

    def marked(self, texts: Sequence[tuple[str, str]]) -> tuple[Given, torch.Tensor]:
        """Texts with one word more, of one token, between their halves.

        Returns:
            Their tokens, and int64 [texts], the number of that word's token; -1 where it is cut
            off.
        """
        whole, starts = [], []
        for before, after in texts:
            # A lone letter is one token to all tokenizers; joined to another it might not be.
            before += " " if before[-1:].isalnum() else ""
            after = f" {after}" if after[:1].isalnum() else after
            whole.append(f"{before}x{after}")
            # What is put in small letters may get longer.
            starts.append(len(before.lower() if self._siglip else before))
        given = self._tokenized(whole)
        places = [given.char_to_token(row, at) for row, at in enumerate(starts)]
        return self._wanted(given), torch.tensor([-1 if at is None else at for at in places])

    @property
    def marks(self) -> bool:
        """Whether :meth:`marked` can tell where a word went."""
        return bool(self._tokenizer.is_fast)

    def _tokenized(self, texts: Sequence[str]) -> Any:
        # SigLIP was trained on texts in small letters, filled up on the right, and unmasked.
        return self._tokenizer(
            [text.lower() for text in texts] if self._siglip else list(texts),
            padding="max_length" if self._siglip else True,
            padding_side="right" if self._siglip else None,
            truncation=True,
            max_length=self._longest,
            return_tensors="pt",
        )

    def _wanted(self, given: Any) -> Given:
        unwanted = {"attention_mask"} if self._siglip else set()
        return {name: value for name, value in given.items() if name not in unwanted}

    def see(self, given: Given) -> torch.Tensor:
        return _bare(self.model.get_image_features(**given))

    def read(self, given: Given) -> torch.Tensor:
        return _bare(self.model.get_text_features(**given))


def _bare(output: Any) -> torch.Tensor:
    """Some models give the vectors bare, some within an output."""
    vectors: torch.Tensor = getattr(output, "pooler_output", output)
    return vectors


def _load(source: ModelSource) -> _TransformersTowers:
    import transformers
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    where = where_of(source)
    config = AutoConfig.from_pretrained(source.location, **where)
    kind = getattr(transformers, str(MODEL_MAPPING_NAMES.get(config.model_type)), None)
    if not (hasattr(kind, "get_text_features") and hasattr(kind, "get_image_features")):
        raise ModelError(
            f"{source.name} is of type '{config.model_type}', which does not embed pictures and "
            "texts alike; name a CLIP or SigLIP model, such as tiny-clip or "
            "openai/clip-vit-base-patch32, or leave out --method clip."
        )
    model = AutoModel.from_pretrained(
        source.location, dtype="auto", use_safetensors=True, **where
    ).eval()
    image_processor = AutoImageProcessor.from_pretrained(source.location, backend="pil", **where)
    tokenizer = AutoTokenizer.from_pretrained(source.location, **where)
    return _TransformersTowers(model, image_processor, tokenizer)

"""Our encoders as models of mteb, the embedding benchmark: ``pip install 'cies[mteb]'``.

An mteb model has no conditions, so an encoder embeds under one condition there: the one it is
given, or that of the task (:mod:`eval.adapters.mteb_tasks` puts it into the task's prompt, where
mteb has instructions).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from indexes.errors import UsageError
from indexes.vectors import Vectors, unit
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder
from ingest.read.isolated import picture_of


class MtebModel:
    """An encoder with the interface that ``mteb.evaluate`` needs (``mteb.models.EncoderProtocol``).

    Pictures and texts are embedded under the condition. A composed query, which has both, is
    embedded as the normalized sum of the two unit vectors, the simplest baseline.
    """

    def __init__(
        self,
        model_name: BaseEncoder,
        revision: str | None = None,
        *,
        device: str | None = None,
        condition: Condition | None = None,
    ) -> None:
        """Wrap an encoder; the names of the arguments are mteb's.

        Args:
            model_name: the encoder itself.
            revision: ignored, the encoder has its own.
            device: ignored, the encoder has its own.
            condition: the condition to embed under; ``None`` for the condition of each task.
        """
        self.encoder = model_name
        self.condition = condition

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Vectors:
        """Embed the batches of mteb's loader: float32 [inputs, dim], unit rows.

        Args:
            inputs: batches with a list of PIL pictures as ``image``, of strings as ``text``, or
                both.
            task_metadata: the metadata of the task; its prompt is the condition if none is set.
            hf_split: ignored.
            hf_subset: ignored.
            prompt_type: ignored; queries and documents are embedded in the same way.
            kwargs: ignored.

        Raises:
            UsageError: if there is no condition, a batch has neither pictures nor texts, or the
                encoder cannot embed texts and has to.
            ModelError: if the encoder does not support the condition.
        """
        condition = self._condition(task_metadata)
        self.encoder.check([condition])
        parts = [self._batch(batch, condition) for batch in inputs]
        return np.concatenate(parts) if parts else np.empty((0, self.encoder.dimension), np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Vectors:
        """Return the cosines of all pairs: float32 [first, second]."""
        first, second = np.atleast_2d(embeddings1), np.atleast_2d(embeddings2)
        product: Vectors = first @ second.T
        return product

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Vectors:
        """Return the cosine of each pair: float32 [pairs]."""
        first, second = np.asarray(embeddings1), np.asarray(embeddings2)
        product: Vectors = np.einsum("nd,nd->n", first, second)
        return product

    @property
    def mteb_model_meta(self) -> Any:
        """The description for mteb's results: ``mteb.models.ModelMeta``."""
        from mteb.models.model_meta import ModelMeta

        spec = self.encoder.spec
        name = spec.model.rstrip("/").rsplit("/", 1)[-1]
        return ModelMeta(
            loader=None,
            name=f"cies/{spec.method}-{name}",
            revision=spec.revision,
            release_date=None,
            languages=["eng-Latn"],
            n_parameters=None,
            memory_usage_mb=None,
            max_tokens=None,
            embed_dim=self.encoder.dimension,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            use_instructions=True,
            training_datasets=None,
            modalities=["image", "text"],
            experiment_kwargs=(
                {} if self.condition is None else {"condition": self.condition.name}
            ),
        )

    def _condition(self, task_metadata: Any) -> Condition:
        if self.condition is not None:
            return self.condition
        prompt = task_metadata.prompt
        if not isinstance(prompt, str):
            raise UsageError(
                f"The task {task_metadata.name} has no condition; give the model one, such as "
                "MtebModel(encoder, condition=Condition.parse('color'))."
            )
        return Condition.parse(prompt)

    def _batch(self, batch: Mapping[str, Any], condition: Condition) -> Vectors:
        sides = []
        if "image" in batch:
            pictures = [picture_of(image).image for image in batch["image"]]
            sides.append(self.encoder.encode(pictures, [condition])[:, 0])
        if "text" in batch:
            sides.append(self.encoder.encode_text(list(batch["text"]), [condition])[:, 0])
        if not sides:
            raise UsageError(
                f"A batch of {', '.join(batch)} has neither pictures nor texts; only these can be "
                "embedded."
            )
        return sides[0] if len(sides) == 1 else unit(np.sum(sides, axis=0))

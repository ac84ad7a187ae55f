"""Our encoders as models of mteb, the embedding benchmark: ``pip install 'cies[mteb]'``.

An mteb model has no notion of a condition, so that an encoder serves there under one: the
condition it is given, or that of the task (:mod:`eval.adapters.mteb_tasks` puts it into the
task's prompt, where mteb keeps instructions).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from indexes.errors import UsageError
from indexes.search.vectors import Vectors, unit
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder
from ingest.read.images import flattened


class MtebModel:
    """An encoder in the form that ``mteb.evaluate`` takes (``mteb.models.EncoderProtocol``).

    Pictures and texts are embedded under the condition. What has both, as a composed query, gets
    the sum of the two unit vectors, normalised again, which is the field's plainest baseline.
    """

    def __init__(
        self,
        model_name: BaseEncoder,
        revision: str | None = None,
        *,
        device: str | None = None,
        condition: Condition | None = None,
    ) -> None:
        """Wrap an encoder; the arguments' names are mteb's.

        Args:
            model_name: the encoder itself.
            revision: not used, the encoder knows its own.
            device: not used, the encoder is on one.
            condition: it serves under; ``None`` for the one that each task names.
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
        """Embed what mteb's loader yields: float32 [inputs, dim], unit rows.

        Args:
            inputs: batches with a list of PIL pictures as ``image``, of strings as ``text``, or
                both.
            task_metadata: of the task; its prompt names the condition if none is given.
            hf_split: not used.
            hf_subset: not used.
            prompt_type: not used; queries and documents are embedded alike.
            kwargs: not used.

        Raises:
            UsageError: if no condition is known, a batch has neither pictures nor texts, or the
                encoder has no text side and needs one.
            ModelError: if the encoder cannot serve the condition.
        """
        condition = self._condition(task_metadata)
        self.encoder.check([condition])
        parts = [self._batch(batch, condition) for batch in inputs]
        return np.concatenate(parts) if parts else np.empty((0, self.encoder.dimension), np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Vectors:
        """Cosine of all pairs: float32 [first, second]."""
        first, second = np.atleast_2d(embeddings1), np.atleast_2d(embeddings2)
        product: Vectors = first @ second.T
        return product

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Vectors:
        """Cosine of each pair: float32 [pairs]."""
        first, second = np.asarray(embeddings1), np.asarray(embeddings2)
        product: Vectors = np.einsum("nd,nd->n", first, second)
        return product

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes into its results: ``mteb.models.ModelMeta``."""
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
                f"The task {task_metadata.name} names no condition; give the model one, such as "
                "MtebModel(encoder, condition=Condition.parse('color'))."
            )
        return Condition.parse(prompt)

    def _batch(self, batch: Mapping[str, Any], condition: Condition) -> Vectors:
        sides = []
        if "image" in batch:
            pictures = [flattened(image) for image in batch["image"]]
            sides.append(self.encoder.encode(pictures, [condition])[:, 0])
        if "text" in batch:
            sides.append(self.encoder.encode_text(list(batch["text"]), [condition])[:, 0])
        if not sides:
            raise UsageError(
                f"A batch of {', '.join(batch)} has neither pictures nor texts, which is all that "
                "is embedded here."
            )
        return sides[0] if len(sides) == 1 else unit(np.sum(sides, axis=0))

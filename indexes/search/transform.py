"""What stored rows become for those that search them: their vectors moved, their words said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.search.compact_columns import Words
from indexes.vectors import Vectors

#: Moves stored vectors into the space they are compared in: keys, float32 [n, dim] to float32
#: [n, moved], unit rows, where ``moved`` is ``dim`` unless it is said otherwise.
Move = Callable[[Sequence[str], Vectors], Vectors]


#: Gives a word for each stored vector, float32 [n, dim], and how sure it is, float32 [n].
Say = Callable[[Vectors], tuple[list[str], NDArray[np.float32]]]


@dataclass(frozen=True)
class Space:
    """What stored rows become for those that search them.

    Attributes:
        move: of the vectors.
        dimension: of the moved ones.
        say: words in place of the stored ones; ``None`` to keep these.
    """

    move: Move
    dimension: int
    say: Say | None = None

    def words(
        self, stored: Vectors, words: Words, probabilities: NDArray[np.float32]
    ) -> tuple[Words, NDArray[np.float32]]:
        """The words of some rows, [n], and how sure they are, float32 [n].

        Args:
            stored: float32 [n, dim], unit rows.
            words: as they are stored.
            probabilities: float32 [n], of them.
        """
        if self.say is None:
            return words, probabilities
        said, sure = self.say(stored)
        return Words.of(pa.chunked_array([pa.array(said, pa.string())])), sure

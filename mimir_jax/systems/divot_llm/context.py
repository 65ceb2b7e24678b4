# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What an LLM of Divot has read and written so far, as arrays of a few shapes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mimir_jax.config import AgentConfig
from mimir_jax.models.divot import mask, vocabulary
from mimir_jax.models.divot.sequences import NOWHERE, InputTurn, Kind, TextTurn, Turn

CLIP_STEP = 4  # numbers of clips that programs are compiled for


class Row(NamedTuple):
    """A padded context with a batch axis."""

    ids: Any
    roles: Any
    clips: Any
    positions: Any


class Context:
    """A row that grows while it is written.

    Args:
        config: The LLM.
        vocab: Ids of the tokens around text.
        turns: What it begins with.

    Attributes:
        ids: Its tokens.
    """

    def __init__(
        self, config: AgentConfig, vocab: vocabulary.Vocabulary, turns: Sequence[Turn] = ()
    ):
        self._config, self._vocab = config, vocab
        self.ids: list[int] = []
        self._roles: list[int] = []
        self._clips: list[np.ndarray] = []
        self._starts: list[int] = []
        self.add([vocab.bos])
        for turn in turns:
            if isinstance(turn, TextTurn):
                self.add([int(i) for i in turn.ids])
            elif isinstance(turn, InputTurn):
                first, last = getattr(vocab, turn.kind)
                self.add([first])
                for clip in turn.tokens:
                    self.add_block(clip)
                self.add([last])

    def add(self, ids: Sequence[int], role: int = mask.TOKEN) -> None:
        """Appends tokens."""
        self.ids += ids
        self._roles += [role] * len(ids)

    def add_block(self, clip: Float[np.ndarray, "q d"]) -> None:
        """Appends a clip that is read, with its own delimiters."""
        vocab = self._vocab
        self.add([vocab.clip[0]])
        self._clips.append(clip)
        self._starts.append(len(self.ids))
        self.add(vocab.indices)
        self.add([vocab.clip[1]])

    def add_clip(self, clip: Float[np.ndarray, "q d"], kind: Kind) -> None:
        """Appends a finished video or image, whose first delimiter may be there already."""
        around = getattr(self._vocab, kind)
        if self.ids[-1] != around[0]:
            self.add([around[0]])
        self.add_block(clip)
        self.add([around[1]])

    def copy(self) -> "Context":
        """Returns a context of the same tokens."""
        other = Context(self._config, self._vocab)
        other.ids, other._roles = [*self.ids], [*self._roles]
        other._clips, other._starts = [*self._clips], [*self._starts]
        return other

    def pad(self, length: int) -> Row:
        """Returns the context as arrays, of `length` tokens and a few possible numbers of clips."""
        cfg = self._config
        count = -(-max(len(self._clips), 1) // CLIP_STEP) * CLIP_STEP
        clips = np.zeros((1, count, cfg.num_queries, cfg.token_width), np.float32)
        positions = np.full(clips.shape[:3], NOWHERE, np.int32)
        for place, (clip, start) in enumerate(zip(self._clips, self._starts, strict=True)):
            clips[0, place] = clip
            positions[0, place] = np.arange(start, start + cfg.num_queries)
        rest = length - len(self.ids)
        ids = np.array([self.ids + [self._vocab.pad] * rest], np.int32)
        roles = np.array([self._roles + [mask.PAD] * rest], np.int32)
        return Row(ids, roles, clips, positions)

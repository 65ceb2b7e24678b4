# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder: clips to the frames that the tokenizer reads, captions to rows."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mimir_jax.config import TrainConfig
from mimir_jax.data import sources, transforms
from mimir_jax.encoders import clip_tokens, decoding
from mimir_jax.models import functional, llm
from mimir_jax.models.divot import mask, sequences
from mimir_jax.parallel import distributed
from mimir_jax.systems import base, clip_turns, heldout
from mimir_jax.systems.clip_captioning import system as system_lib


class ClipCaptioningEncoder:
    """`base.Encoder` of clips with captions.

    Args:
        config: The run.
        system: Its pure half.
    """

    def __init__(self, config: TrainConfig, system: system_lib.ClipCaptioningSystem):
        self._config, self._system = config, system
        kind = "image" if config.data.frames == 1 else "video"
        self._rows = clip_turns.RowMaker(system.tokenizer, system.rows, kind)

    def source(self, split: sources.Split) -> sources.Source:
        """Returns the clips of a split."""
        return sources.make_source(self._config.data, split, seed=self._config.seed)

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Returns the rows of clips and their captions."""
        rows = [self._row(caption) for caption in records["caption"]]
        ids, roles, labels, positions = (
            np.stack([getattr(row, name) for row in rows])
            for name in ("ids", "roles", "labels", "input_positions")
        )
        wanted = self._system.config.model.tokenizer.frames
        picked = [v[clip_tokens.frame_positions(len(v), wanted)] for v in records["video"]]
        return system_lib.Batch(np.stack(picked), ids, roles, labels, positions[:, 0])

    @functools.cached_property
    def heldout(self) -> dict[str, Any]:
        """The held-out clips."""
        count = self._config.system.heldout_clips
        videos, captions = sources.read_heldout(self._config.data, count, seed=self._config.seed)
        return {"video": videos, "caption": captions}

    def _row(self, caption: str) -> sequences.Row:
        cfg = self._system.rows
        clip = np.zeros((1, cfg.num_queries, cfg.token_width), np.float32)  # made in the step
        turns = self._rows.comprehension(clip, "", caption)
        return sequences.build(turns, self._system.vocab, cfg)


class HeldoutClips(heldout.HeldoutBatch):
    """Loss and accuracy of the captions of held-out clips.

    Args:
        system: The pure half.
        encoder: The host half.
    """

    def __init__(self, system: system_lib.ClipCaptioningSystem, encoder: ClipCaptioningEncoder):
        super().__init__(system, lambda: encoder.encode(encoder.heldout))
        self._system, self._encoder = system, encoder
        self._embed = jax.jit(system.model.embed)

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns held-out captions, each followed by what the LLM tells."""
        count = self._system.config.examples
        if not count:
            return base.Examples()
        captions = self._encoder.heldout["caption"][:count]
        told = self.describe(params, len(captions))
        pairs = zip(captions, told, strict=True)
        return base.Examples(lines=[line for c, t in pairs for line in (c, f"  {t}", "")])

    def describe(self, params: functional.Params, count: int) -> list[str]:
        """Returns what the LLM tells of the first `count` held-out clips, greedily."""
        system, vocab = self._system, self._system.vocab
        batch = jax.tree.map(lambda x: x[:count], self._batch)
        length = int(batch.positions.max()) + 3  # up to the end of the video
        ids, roles = batch.ids[:, :length], batch.roles[:, :length]
        tokens = decoding.generate(
            functional.build(llm.LLM, system.config.model.llm),
            params["llm"],
            ids,
            roles != mask.PAD,
            max_new_tokens=system.config.answer_length,
            eos_ids=(vocab.eos,),
            pad_id=vocab.pad,
            embeddings=self._embed(params, transforms.to_float(batch.frames), ids, batch.positions),
        )
        said = distributed.to_host(tokens)
        decode = system.tokenizer.batch_decode
        known = np.where(said < len(system.tokenizer), said, vocab.pad)
        return [" ".join(t.split()) for t in decode(known, skip_special_tokens=True)]


def make_encoder(
    config: TrainConfig, system: system_lib.ClipCaptioningSystem, mesh: Mesh | None = None
) -> ClipCaptioningEncoder:
    """Returns the reader of clips and captions; there are no frozen networks.

    Raises:
        InputError: for a tokenizer of text that does not belong to the LLM.
    """
    del mesh
    _ = system.vocab
    return ClipCaptioningEncoder(config, system)


def make_evaluators(
    config: TrainConfig, system: system_lib.ClipCaptioningSystem, encoder: ClipCaptioningEncoder
) -> list[base.Evaluator]:
    """Returns the evaluator of held-out clips."""
    del config
    return [HeldoutClips(system, encoder)]

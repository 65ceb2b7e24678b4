# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the frozen text encoders."""

import dataclasses
from typing import Literal

from mimir_jax.config import checks
from mimir_jax.models.config import DType

INSTRUCTIONS = (
    "List every object in the video and how many there are.",
    "Describe the colour and the attributes of every object.",
    "Describe where the objects are in relation to each other.",
    "Describe the actions in order and how the light changes over time.",
)
"""The four instruction prompts of the semantic stabilizer (M-U12)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Caption to features: the frozen encoders and what is read from them.

    Attributes:
        t5_path: Folder of T5: weights, config and tokenizer; `package:NAME` ships with mimir_jax.
        llm_path: Folder of the LLM, likewise; read by Mimir alone.
        dtype: Dtype of the encoders; None keeps the stored one.
        length: Positions of both feature sequences, padded or truncated on the right (M-U4).
        llm_layer: Hidden state read from the LLM, -1 is the last after its norm (M-U2).
        llm_tokens: LLM states that enter the sum: of the prompt, of sampled answers, or the prompt
            followed by an answer (M-U3).
        num_answers: Sampled answers kept per caption; training draws one each step (M-U3).
        answer_length: New tokens per answer; None fills what the prompt leaves of `length`.
        answer_temperature: Temperature of sampled answers; 0 takes the likeliest token (M-U28).
        answer_top_p: Probability mass that sampled answers are drawn from (M-U28).
        system: System turn before the caption's and the instructions' turns; None has none (M-U27).
        instructions: One instruction per stabilizer token (M-U12).
        instruction_length: Tokens of an instruction turn; its caption is cut on the right (M-U4).
        instruction_prompt: Whether the caption accompanies each instruction (M-U13).
        null: Text of the unconditional branch: zeros, or the features of an empty caption (M-U17).
    """

    t5_path: str | None = None
    llm_path: str | None = None
    dtype: DType | None = None
    length: int = 226
    llm_layer: int = -1
    llm_tokens: Literal["query", "answer", "query+answer"] = "query+answer"
    num_answers: int = 4
    answer_length: int | None = None
    answer_temperature: float = 0.8
    answer_top_p: float = 0.9
    system: str | None = None
    instructions: tuple[str, ...] = INSTRUCTIONS
    instruction_prompt: Literal["caption+instruction", "instruction"] = "caption+instruction"
    instruction_length: int = 320
    null: Literal["zero", "empty"] = "zero"

    def __post_init__(self):
        for name in ("num_answers", "length", "instruction_length", "answer_length"):
            checks.within(self, name, 1)
        checks.within(self, "answer_temperature", 0)
        checks.within(self, "answer_top_p", 0, 1, above=True)

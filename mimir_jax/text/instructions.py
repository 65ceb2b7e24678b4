# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts of the LLM: the caption's own turn, and the four instruction turns of the stabilizer."""

from typing import Any

from mimir_jax.config import TextConfig


def caption_turn(caption: str) -> list[dict[str, str]]:
    """Returns the chat whose states and answers enter the fuser: no system turn (M-U27)."""
    return [{"role": "user", "content": caption}]


def instruction_turns(caption: str, config: TextConfig) -> list[list[dict[str, str]]]:
    """Returns one chat per instruction, with or without the caption before it (M-U12, M-U13)."""
    prefix = f"{caption}\n" if config.instruction_prompt == "caption+instruction" else ""
    return [[{"role": "user", "content": prefix + text}] for text in config.instructions]


def render(tokenizer: Any, chat: list[dict[str, str]]) -> str:
    """Renders a chat up to where the assistant begins, by the tokenizer's own template."""
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def tokenize(tokenizer: Any, chat: list[dict[str, str]]) -> list[int]:
    """Returns the tokens of a rendered chat."""
    return tokenizer(render(tokenizer, chat), add_special_tokens=False)["input_ids"]

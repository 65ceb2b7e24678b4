# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts of the LLM: the caption's own turn, and the four instruction turns of the stabilizer."""

import datetime
import pathlib
from typing import Any

from mimir_jax import files
from mimir_jax.config import TextConfig, flag
from mimir_jax.encoders import tokenizers
from mimir_jax.errors import InputError

Chat = list[dict[str, Any]]

_CLOCK = "strftime_now"
_DAY = datetime.datetime(2024, 7, 26)  # that Llama's templates write where they have no clock


def caption_turn(caption: str, config: TextConfig) -> Chat:
    """Returns the chat whose states and answers enter the fuser (M-U27)."""
    return _chat(caption, config)


def instruction_turns(caption: str, config: TextConfig) -> list[Chat]:
    """Returns one chat per instruction, with or without the caption before it (M-U12, M-U13)."""
    prefix = f"{caption}\n" if config.instruction_prompt == "caption+instruction" else ""
    return [_chat(prefix + text, config) for text in config.instructions]


def render(tokenizer: Any, chat: Chat) -> str:
    """Renders a chat up to where the assistant begins, by the tokenizer's own template.

    Raises:
        InputError: if it has none, or one that refuses the chat.
    """
    return _apply_template(tokenizer, chat, add_generation_prompt=True)


def require_text(tokenizer: Any, config: TextConfig) -> None:
    """Raises `InputError` for a template that drops the text of a turn, as one for parts does."""
    word = "caption"
    if word not in render(tokenizer, caption_turn(word, config)):
        raise InputError(
            f"chat template of LLM {tokenizer.name_or_path} must show the text of a turn, got none "
            f"of it; name another LLM with {flag('system.text.llm_path')}"
        )


def apply_template(tokenizer: Any, chat: Chat, **options: Any) -> str:
    """Renders a chat by the tokenizer's own template, to which every day is the same.

    Models that may think before they answer (Qwen3) are asked not to: few new tokens are read.
    """
    template = tokenizer.get_chat_template()
    if _CLOCK in template:
        template = _stopped_clock() + template
    options |= {"chat_template": template, "tokenize": False, "enable_thinking": False}
    return tokenizer.apply_chat_template(chat, **options)


def _stopped_clock() -> str:
    """Returns a macro in place of the function that tells templates the time."""
    parts = [f"replace('%{code}', '{_DAY:%{code}}')" for code in "aAbBdHIjmMpSyY"]
    return f"{{% macro {_CLOCK}(form) %}}{{{{ form | {' | '.join(parts)} }}}}{{% endmacro +%}}"


def end_ids(tokenizer: Any, folder: pathlib.Path, *, parts: bool = False) -> tuple[int, ...]:
    """Returns the tokens that end an answer, in order.

    They are the tokenizer's own end, those of `generation_config.json` in `folder`, and the marker
    that closes the assistant's turn in the chat template. Phi-3 ends turns in `<|end|>`, which its
    tokenizer does not call an end.

    Args:
        tokenizer: The tokenizer.
        folder: Folder of the LLM.
        parts: Whether turns have their text in a list of parts, as those of a LLaVA.
    """
    ends = {tokenizer.eos_token_id}
    settings = folder / "generation_config.json"
    if settings.is_file():
        named = files.read_json(settings, "generation config").get("eos_token_id")
        listed = named if isinstance(named, list) else [named]
        if not all(x is None or type(x) is int for x in listed):
            raise InputError(
                f"generation config {settings} must give eos_token_id as a number or a list of "
                f"numbers, got {named!r:.80}; correct it"
            )
        ends.update(listed)
    asked, said = ([{"type": "text", "text": x}] if parts else x for x in "?!")
    chat = [{"role": "user", "content": asked}]
    begun = render(tokenizer, chat) + "!"
    whole = _apply_template(tokenizer, [*chat, {"role": "assistant", "content": said}])
    if whole.startswith(begun):
        rest = whole.removeprefix(begun).strip()
        first = tokenizer(rest, add_special_tokens=False)["input_ids"][:1]
        ends.update(set(first) & set(tokenizer.added_tokens_decoder))
    return tuple(sorted(ends - {None}))


def tokenize(tokenizer: Any, chat: Chat) -> list[int]:
    """Returns the tokens of a rendered chat."""
    return tokenizer(render(tokenizer, chat), add_special_tokens=False)["input_ids"]


def _apply_template(tokenizer: Any, chat: Chat, **options: Any) -> str:
    place = tokenizer.name_or_path
    if tokenizer.chat_template is None:
        raise InputError(
            f"LLM {place} must have a chat template, got none, as base models have none; name one "
            f"that follows instructions with {flag('system.text.llm_path')}"
        )
    try:
        return apply_template(tokenizer, chat, **options)
    except Exception as error:  # the template may raise, or trip over, anything
        roles = [turn["role"] for turn in chat]
        remedy = f"name another LLM with {flag('system.text.llm_path')}"
        if "system" in roles:
            remedy = f"leave {flag('system.text.system')} out or {remedy}"
        raise InputError(
            f"chat template of LLM {place} must take turns of {' and '.join(roles)}, got "
            f"{tokenizers.first_line(error)}; {remedy}"
        ) from None


def _chat(text: str, config: TextConfig) -> Chat:
    system = [] if config.system is None else [{"role": "system", "content": config.system}]
    return [*system, {"role": "user", "content": text}]

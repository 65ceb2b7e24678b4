# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's LLM with its projector and mixture head, as published.

    llm/      config.json and safetensors of the LLM, as transformers writes them
    agent/    pytorch_model.bin with `input_resampler.proj.*` and `output_resampler.proj.*`

A checkpoint of training has the tensors of the LLM in `agent/` too, with unmerged adapters (see
`peft`). Tensors tell the widths and the number of Gaussians. Our own exports add
`agent/config.json` with what they do not tell.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

from mimir_jax import files as files_lib
from mimir_jax.config import AgentConfig
from mimir_jax.errors import InputError
from mimir_jax.models.divot import agent
from mimir_jax.weights import family, llm, tensors
from mimir_jax.weights.rules import Rule, inside, linear
from mimir_jax.weights.tensors import Tensor, Tensors

LLM, AGENT = "llm", "agent"
FILE = "pytorch_model.bin"
_PARTS = {"projector": "input_resampler.proj", "head": "output_resampler.proj"}
_STATED = ("token_width", "num_components", "min_variance", "num_queries")


class Agent(family.Published):
    """LLM, projector and mixture head."""

    kind = "divot_llm"
    module = agent.Agent
    library = "divot"
    classes = ("DivotAgent",)
    stem = "model"
    reports_extra = True
    compute = "float32"

    def __init__(self):
        self._llm = llm.LLM()

    def with_dtype(self, config: AgentConfig, dtype: str) -> AgentConfig:
        """Returns the config with every part in another compute dtype."""
        return dataclasses.replace(config, llm=dataclasses.replace(config.llm, dtype=dtype))

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> AgentConfig:
        """Reads the LLM's config, and widths and number of Gaussians from the tensors.

        Args:
            raw: `llm/config.json` as `llm`, `agent/config.json` as `agent`.
            tensors: The checkpoint; without any, `agent` states all.
        """
        stated = {name: value for name, value in raw[AGENT].items() if name in _STATED}
        queries = stated.pop("num_queries", 64)
        cfg = dataclasses.replace(self._llm.read_config(raw[LLM], {}), query_block=queries)
        sizes = _infer(tensors) if tensors else {}
        for name, value in sizes.items():
            if stated.get(name, value) != value:
                raise InputError(
                    f"agent must have the {name}={stated[name]} of its config.json, its tensors "
                    f"have {value}; use the files that belong together"
                )
        return AgentConfig(llm=cfg, **(stated | sizes))

    def write_config(self, config: AgentConfig, name: str) -> family.Raw:
        """Writes the configs of both folders."""
        return {
            LLM: self._llm.write_config(config.llm, llm.exported_class(config.llm)),
            AGENT: {field: getattr(config, field) for field in _STATED},
        }

    def rules(self, config: AgentConfig, name: str) -> list[Rule]:
        """Returns the table with an LLM in the layout that `write_config` writes."""
        return self._rules(config, llm.exported_class(config.llm))

    def table(self, config: AgentConfig, name: str, raw: family.Raw) -> list[Rule]:
        """Returns the table with an LLM in the layout of its config."""
        return self._rules(config, llm.class_name(raw[LLM]))

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Drops the copy of tied embeddings that some checkpoints store as a head."""
        if raw[LLM].get("tie_word_embeddings", False):
            return llm.one_table(tensors, "llm.model.embed_tokens.weight", "llm.lm_head.weight")
        return tensors

    def licence(self, config: AgentConfig) -> str:
        """Divot's own licence."""
        return "Divot: see its model card; Mistral-7B: Apache-2.0"

    def _rules(self, config: AgentConfig, layout: str) -> list[Rule]:
        if config.head in ("noise", "velocity"):
            raise InputError(
                f"head of the agent must be a mixture in the published layout, got {config.head}; "
                "write a native folder"
            )
        parts = [
            rule
            for ours, theirs in _PARTS.items()
            for layer, index in (("up", 0), ("down", 2))
            for rule in linear(f"{ours}/{layer}", f"{theirs}.{index}", bias=True)
        ]
        return [*inside(self._llm.rules(config.llm, layout), "llm", "llm."), *parts]


def open_folder(folder: pathlib.Path) -> tuple[family.Raw, Tensors, list[pathlib.Path]]:
    """Lists the tensors of both folders, those of `llm` behind `llm.`.

    Returns:
        Both configs, tensors by name, and the files they lie in.

    Raises:
        InputError: if a folder holds no checkpoint, or a file is damaged.
    """
    found, files = tensors.open_folder(folder / AGENT)
    if not any(name.startswith("llm.") for name in found):
        inner, more = tensors.open_folder(folder / LLM)
        found = {**{f"llm.{name}": tensor for name, tensor in inner.items()}, **found}
        files = [*more, *files]
    raw = {LLM: files_lib.read_json(folder / LLM / "config.json", "config of the LLM"), AGENT: {}}
    if (stated := folder / AGENT / "config.json").is_file():
        raw[AGENT] = files_lib.read_json(stated, "config of the agent")
    return raw, found, files


def _infer(found: Mapping[str, Tensor]) -> dict[str, int]:
    """Returns width and number of Gaussians of a clip token, as tensors tell them.

    Raises:
        InputError: if the tensors that tell them are missing, or disagree.
    """
    names = {part: f"{theirs}.0.weight" for part, theirs in _PARTS.items()}
    missing = [name for name in names.values() if len(getattr(found.get(name), "shape", ())) != 2]
    if missing:
        raise InputError(
            f"agent must hold the kernels {', '.join(missing)}, which tell its sizes, they are "
            "missing; download agent/ again"
        )
    width, outputs = found[names["projector"]].shape[1], found[names["head"]].shape[0]
    if outputs % (2 * width + 1):
        raise InputError(
            f"mixture head must have k * (2 d + 1) outputs for clip tokens of d = {width} numbers, "
            f"the input of the projector, got {outputs}; use the files that belong together"
        )
    return {"token_width": width, "num_components": outputs // (2 * width + 1)}

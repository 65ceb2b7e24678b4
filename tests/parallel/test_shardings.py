# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Where every parameter of the paper-scale runs lies, as reviewed text.

python -m tests.parallel.test_shardings    # after a change of rules or parameters; read the diff
"""

import pathlib

import pytest
from jax.sharding import AbstractMesh

from mimir_jax import config as c
from mimir_jax.models import functional, llm, t5, vit
from mimir_jax.models.divot import tokenizer
from mimir_jax.models.mimir import model as model_lib
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.weights import flatten
from tests import quick

FOLDER = pathlib.Path(__file__).parent / "shardings"
SIZES = (2, 8, 2, 2)
MODELS = {
    "mimir-5b": (model_lib.Mimir, c.MimirConfig()),
    "mimir-2b": (model_lib.Mimir, c.MimirConfig(dit=c.DiTConfig(**c.COGVIDEOX["2b"]))),
    "vae": (autoencoder.VAE, c.VAEConfig()),
    "t5-xxl": (t5.T5Encoder, c.T5Config()),
    "phi-3.5-mini": (llm.LLM, c.LLMConfig()),
    "clip-vit-l": (vit.ViT, c.ViTConfig()),
    "divot-tokenizer": (tokenizer.DivotTokenizer, c.DivotTokenizerConfig()),
}


def specs(name, strategy):
    """Path to shape and mesh axes of every parameter."""
    module, config = MODELS[name]
    model = functional.build(module, config)
    mesh = AbstractMesh(SIZES, mesh_lib.AXES)
    found = rules_lib.param_shardings(
        model.abstract_params, model.axes, rules_lib.STRATEGIES[strategy], mesh
    )
    shapes = flatten(model.abstract_params)
    return {path: (shapes[path].shape, tuple(x.spec)) for path, x in sorted(flatten(found).items())}


def as_text(name):
    """A line a parameter."""
    return "".join(
        f"{path} {shape} {spec}\n" for path, (shape, spec) in specs(name, "fsdp").items()
    )


@pytest.mark.parametrize("name", quick.some(MODELS, "mimir-5b", "t5-xxl", "phi-3.5-mini"))
def test_parameters_lie_where_reviewed(name):
    assert as_text(name) == (FOLDER / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", quick.some(MODELS, "mimir-5b", "t5-xxl", "phi-3.5-mini"))
def test_replicated_parameters_lie_whole_everywhere(name):
    assert not any(any(spec) for _, spec in specs(name, "replicated").values())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in MODELS:
        (FOLDER / f"{name}.txt").write_text(as_text(name))

# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Comparisons shared by the tests."""

import jax.numpy as jnp
import numpy as np

from mimir_jax.models import params as params_lib
from mimir_jax.weights import opening, recognition, rules, tensors


def relative_error(ours, reference) -> float:
    """Largest absolute difference over the largest absolute reference value."""
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape, (ours.shape, reference.shape)
    return float(np.abs(ours - reference).max() / max(np.abs(reference).max(), 1e-12))


def params_of(kind, model, cfg, name=None):
    """Our parameters from a torch model, by the converter's table for class `name`."""
    family = opening.FAMILIES[kind]
    state = {k: tensors.of_array(v.detach().numpy()) for k, v in model.state_dict().items()}
    name = family.export_class(name)
    state = family.prepare(family.write_config(cfg, name), state)
    table, abstract = family.rules(cfg, name), family.abstract(cfg)
    ignored = (*family.ignored, *recognition.BUFFERS)
    rules.check(table, abstract, state, ignored=ignored, source="test")
    params = rules.import_params(table, abstract, state)
    return params_lib.unflatten({path: jnp.asarray(x.read()) for path, x in params.items()})

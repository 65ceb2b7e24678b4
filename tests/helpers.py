# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Comparisons shared by the tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mimir_jax.models import params as params_lib
from mimir_jax.training import state as state_lib
from mimir_jax.training import step as step_lib
from mimir_jax.weights import opening, recognition, rules, tensors


def relative_error(ours, reference) -> float:
    """Largest absolute difference over the largest absolute reference value."""
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape, (ours.shape, reference.shape)
    return float(np.abs(ours - reference).max() / max(np.abs(reference).max(), 1e-12))


def require_accumulation_of_the_whole(system, batch, parts=2):
    """Asserts that micro-batches with other numbers of tokens give the step of the whole batch."""
    micros = [jax.tree.map(lambda x, i=i: x[i::parts], batch) for i in range(parts)]
    counts = [np.array(jax.tree.leaves(system.counts(micro))) for micro in micros]
    assert (np.ptp(counts, axis=0) > 0).all()
    params = jax.jit(system.model.init)(jax.random.key(0))
    trainable, tx = jax.tree.map(lambda _: True, params), optax.sgd(1.0)
    start = state_lib.create(params, tx, trainable, ema=False)
    options = dict(loss_fn=system.loss, counts_fn=system.counts, trainable=trainable, tx=tx)
    (whole, values), (after, others) = (
        jax.jit(functools.partial(step_lib.train_step, accumulate=number, **options))(
            start, batch, jax.random.key(1)
        )
        for number in (1, parts)
    )
    assert values.keys() == others.keys()
    for name, value in values.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-4, err_msg=name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), whole.params, after.params
    )


def params_of(kind, model, cfg, name=None):
    """Our parameters from a torch model, by the converter's table for class `name`."""
    family = opening.FAMILIES[kind]
    state = {k: tensors.of_array(v.detach().numpy()) for k, v in model.state_dict().items()}
    name = family.export_class(cfg, name)
    state = family.prepare(family.write_config(cfg, name), state)
    table, abstract = family.rules(cfg, name), family.abstract(cfg)
    ignored = (*family.ignored, *recognition.BUFFERS)
    rules.check(table, abstract, state, ignored=ignored, source="test")
    params = rules.import_params(table, abstract, state)
    return params_lib.unflatten({path: jnp.asarray(x.read()) for path, x in params.items()})

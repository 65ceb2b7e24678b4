# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from mimir_jax.models import condition as conditioning


def tokens(length, start=0.0):
    return start + jnp.arange(2 * length * 3, dtype=jnp.float32).reshape(2, length, 3)


def test_concatenate_keeps_order_and_needs_no_mask():
    joined = conditioning.concatenate(
        conditioning.Condition(tokens=tokens(2)), conditioning.Condition(tokens=tokens(1, 100.0))
    )
    np.testing.assert_array_equal(joined.tokens[:, :2], tokens(2))
    np.testing.assert_array_equal(joined.tokens[:, 2:], tokens(1, 100.0))
    assert joined.mask is None


def test_concatenate_fills_the_mask_of_parts_without_one():
    mask = jnp.array([[True, False], [False, False]])
    joined = conditioning.concatenate(
        conditioning.Condition(tokens=tokens(1)),
        conditioning.Condition(tokens=tokens(2), mask=mask),
    )
    expected = [[True, True, False], [True, False, False]]
    np.testing.assert_array_equal(joined.mask, expected)


def test_concatenate_keeps_the_image_of_one_part():
    image, ofs = jnp.ones((2, 1, 2, 2, 4)), jnp.full(2, 2.0)
    text = conditioning.Condition(tokens=tokens(2))
    both = conditioning.Condition(tokens=tokens(1), image_latents=image, ofs=ofs)
    joined = conditioning.concatenate(text, both)
    assert joined.image_latents is image and joined.ofs is ofs and joined.mask is None
    with pytest.raises(ValueError, match="at most one .* may have image_latents, got 2"):
        conditioning.concatenate(both, both)


def test_zero_rows_replaces_whatever_a_row_holds():
    x = tokens(2).at[0].set(jnp.nan)
    out = conditioning.zero_rows(x, jnp.array([True, False]))
    np.testing.assert_array_equal(out[0], jnp.zeros((2, 3)))
    np.testing.assert_array_equal(out[1], x[1])
    assert conditioning.zero_rows(x, None) is x


def test_features_are_a_pytree_of_arrays_specs_or_anything():
    features = conditioning.TextFeatures(t5=np.zeros((2, 4, 3)), t5_mask=np.ones((2, 4), bool))
    leaves = jax.tree_util.tree_flatten_with_path(features)[0]
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == [".t5", ".t5_mask"]
    shapes = jax.tree.map(np.shape, features)
    assert (shapes.t5, shapes.t5_mask, shapes.llm) == ((2, 4, 3), (2, 4), None)
    specs = jax.eval_shape(lambda f: f, features)
    assert specs.t5.shape == (2, 4, 3) and specs.instructions is None
    placed = jax.tree.map(jnp.asarray, features)
    assert isinstance(placed.t5, jax.Array)
    conditioning.TextFeatures(t5=specs.t5, t5_mask=specs.t5_mask)


@pytest.mark.parametrize(
    "bad",
    [
        dict(t5_mask=np.ones((2, 5), bool)),
        dict(t5_mask=np.ones((2, 4))),
        dict(llm=np.zeros((2, 5, 6))),
        dict(llm=np.zeros((2, 4, 6)), instructions=np.zeros((2, 4, 7))),
    ],
    ids=["length", "dtype", "alignment", "width"],
)
def test_annotations_refuse_misshaped_features(bad):
    good = dict(t5=np.zeros((2, 4, 3)), t5_mask=np.ones((2, 4), bool))
    with pytest.raises(jaxtyping.TypeCheckError, match="TextFeatures"):
        conditioning.TextFeatures(**(good | bad))

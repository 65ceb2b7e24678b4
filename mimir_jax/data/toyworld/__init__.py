# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The embedded dataset: scenes of coloured shapes with exact captions, rendered on the fly.

A scene is a pure function of (seed, split, index); pixels and every text are pure functions of the
scene. NumPy only.
"""

from mimir_jax.data.toyworld.captions import STYLES, answers, caption, expansions, num_templates
from mimir_jax.data.toyworld.motion import FrameState, ObjectState, state, states
from mimir_jax.data.toyworld.renderer import render
from mimir_jax.data.toyworld.sampling import (
    HELDOUT_ORDERS,
    HELDOUT_PAIRS,
    HELDOUT_RELATIONS,
    SPLITS,
    VERSION,
    heldout_combinations,
    is_heldout,
    sample,
)
from mimir_jax.data.toyworld.scene import (
    RADII,
    Action,
    Background,
    Group,
    Relation,
    Scene,
    from_json,
    to_json,
)
from mimir_jax.data.toyworld.source import ToyworldSource

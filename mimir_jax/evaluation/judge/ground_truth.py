# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The exact observation of a scene, computed from its scene graph without pixels.

Comparing it with another scene shows whether a clip of one scene truly answers the prompt of the
other. Credit beyond that is false credit of the judge.
"""

import numpy as np

from mimir_jax.data.toyworld import motion
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.evaluation.judge import actions, observation


def observe_scene(scene: scene_lib.Scene, frames: int = 17) -> observation.Observation:
    """Returns the exact observation of a scene's clip with `frames` frames."""
    times = motion.frame_times(frames)
    groups = []
    for index, group in enumerate(scene.groups):
        moves = motion.group_motion(scene, index, times)
        path = np.stack([moves.dx, moves.dy], axis=-1)[:, None]  # (f, 1, 2)
        events = [
            actions.Event(action.verb, action.start, action.stop)
            for action in scene.actions
            if action.group == index
        ]
        groups.append(
            observation.Group(
                shape=group.shape,
                colour=group.colour,
                size=group.size,
                count=group.count,
                radius=scene.radius(group.size),
                positions=np.array(group.positions) + path,
                events=tuple(events),
            )
        )
    return observation.Observation(
        groups=tuple(groups),
        light=scene.light,
        camera=scene.camera,
        background=scene.background.kind,
        tone=scene.background.tone,
        steadiness=1.0,
        quality=1.0,
    )

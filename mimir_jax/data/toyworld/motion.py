# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Where everything is at any time: object tracks, light level and camera, as closed formulas."""

import dataclasses

import numpy as np
from jaxtyping import Float

from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.errors import InputError

PAN = 0.27
"""Half the distance that the camera travels in a pan, in half frames."""
ZOOM = 1.45
"""Largest magnification; the other end of a zoom is 1, the view in which sizes are named."""
FADE = 0.2
"""Duration of appearing and disappearing, around the middle of the action."""


@dataclasses.dataclass(frozen=True)
class GroupMotion:
    """What the objects of one group share, by time: offset from the start, and looks."""

    dx: Float[np.ndarray, "t"]
    dy: Float[np.ndarray, "t"]
    radius: Float[np.ndarray, "t"]
    angle: Float[np.ndarray, "t"]
    opacity: Float[np.ndarray, "t"]


@dataclasses.dataclass(frozen=True)
class CameraMotion:
    """Screen position is `(world - [pan, 0]) * zoom`."""

    pan: Float[np.ndarray, "t"]
    zoom: Float[np.ndarray, "t"]


@dataclasses.dataclass(frozen=True)
class ObjectState:
    """One object in one frame, as seen on the screen.

    Attributes:
        group: Index of its group in the scene.
        x, y: Centre, in [-1, 1] across the frame; y points down.
        radius: Nominal radius in half shorter sides, after zoom.
        angle: Clockwise turn in radians.
        opacity: 0 for an object that is not there.
    """

    group: int
    shape: str
    colour: str
    x: float
    y: float
    radius: float
    angle: float
    opacity: float


@dataclasses.dataclass(frozen=True)
class FrameState:
    """Everything that holds in one frame.

    Attributes:
        light: 0 at night, 1 by day.
        pan, zoom: Of the camera, see `CameraMotion`.
    """

    objects: tuple[ObjectState, ...]
    light: float
    pan: float
    zoom: float


def frame_times(frames: int) -> Float[np.ndarray, "t"]:
    """Returns the time of every frame; a single frame shows time 0."""
    return np.linspace(0.0, 1.0, frames)


def group_motion(scene: scene_lib.Scene, index: int, times: Float[np.ndarray, "t"]) -> GroupMotion:
    """Returns the common motion of group number `index`."""
    dx, dy, angle = np.zeros((3, len(times)))
    opacity = np.ones(len(times))
    radius = np.full(len(times), scene.radius(scene.groups[index].size))
    change = scene.radius("large") - scene.radius("small")
    for action in scene.actions:
        if action.group != index:
            continue
        progress = np.clip((times - action.start) / (action.stop - action.start), 0.0, 1.0)
        eased = _smooth(progress)
        match action.verb:
            case "right":
                dx += action.amount * eased
            case "left":
                dx -= action.amount * eased
            case "down":
                dy += action.amount * eased
            case "up":
                dy -= action.amount * eased
            case "jump":
                dy -= action.amount * 4.0 * progress * (1.0 - progress)
            case "spin":
                angle += action.amount * progress
            case "grow":
                radius += change * eased
            case "shrink":
                radius -= change * eased
            case "appear":
                opacity *= _fade(times, action)
            case "disappear":
                opacity *= 1.0 - _fade(times, action)
    return GroupMotion(dx, dy, radius, angle, opacity)


def camera_motion(camera: str, times: Float[np.ndarray, "t"]) -> CameraMotion:
    """Returns the camera's path; it moves at a steady pace over the whole clip."""
    pan, zoom = np.zeros(len(times)), np.ones(len(times))
    match camera:
        case "pan right":
            pan = PAN * (2.0 * times - 1.0)
        case "pan left":
            pan = PAN * (1.0 - 2.0 * times)
        case "zoom in":
            zoom = ZOOM**times
        case "zoom out":
            zoom = ZOOM ** (1.0 - times)
    return CameraMotion(pan, zoom)


def light_level(light: str, times: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """Returns how bright it is, from 0 at night to 1 by day."""
    match light:
        case "day":
            return np.ones(len(times))
        case "night":
            return np.zeros(len(times))
        case "dawn":
            return _smooth(times)
        case "dusk":
            return _smooth(1.0 - times)
        case "dim":
            return 1.0 - _smooth(1.0 - np.abs(2.0 * times - 1.0))
        case "glow":
            return _smooth(1.0 - np.abs(2.0 * times - 1.0))
    raise InputError(f"light must be a key of vocabulary.LIGHT, got {light!r}")


def states(scene: scene_lib.Scene, frames: int = 17) -> tuple[FrameState, ...]:
    """Returns the exact state of every frame of a clip."""
    times = frame_times(frames)
    camera = camera_motion(scene.camera, times)
    light = light_level(scene.light, times)
    motions = [group_motion(scene, index, times) for index in range(len(scene.groups))]
    result = []
    for t in range(frames):
        objects = []
        for index, (group, motion) in enumerate(zip(scene.groups, motions, strict=True)):
            for x, y in group.positions:
                objects.append(
                    ObjectState(
                        group=index,
                        shape=group.shape,
                        colour=group.colour,
                        x=float((x + motion.dx[t] - camera.pan[t]) * camera.zoom[t]),
                        y=float((y + motion.dy[t]) * camera.zoom[t]),
                        radius=float(motion.radius[t] * camera.zoom[t]),
                        angle=float(motion.angle[t]),
                        opacity=float(motion.opacity[t]),
                    )
                )
        result.append(
            FrameState(tuple(objects), float(light[t]), float(camera.pan[t]), float(camera.zoom[t]))
        )
    return tuple(result)


def state(scene: scene_lib.Scene, frame: int, frames: int = 17) -> FrameState:
    """Returns the exact state of one frame of a clip of `frames`."""
    return states(scene, frames)[frame]


def _smooth(progress: np.ndarray) -> np.ndarray:
    return progress * progress * (3.0 - 2.0 * progress)


def _fade(times: np.ndarray, action: scene_lib.Action) -> np.ndarray:
    middle = (action.start + action.stop) / 2
    return _smooth(np.clip((times - middle) / FADE + 0.5, 0.0, 1.0))

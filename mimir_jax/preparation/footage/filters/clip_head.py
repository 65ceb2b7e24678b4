# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Aesthetic scores by the image tower of CLIP and a head on its embedding, of a user's folder.

    FOLDER/clip    a `CLIPModel` of transformers, such as openai/clip-vit-large-patch14
    FOLDER/NAME    the head: one file of safetensors, or of torch without code

Heads are those of LAION: `sa_0_4_vit_l_14_linear.pth`, one linear map, and
`sac+logos+ava1-l14-linearMSE.pth`, five in a row, between which there are dropouts and no
activations. Both read the embedding at unit length, and give a number of about 1 to 10.
"""

import pathlib

import jax
import numpy as np
from jaxtyping import Float32

from mimir_jax import weights
from mimir_jax.encoders import images as images_lib
from mimir_jax.errors import InputError, listed, require
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.weights import tensors

TOWER = "clip"
_FORMATS = (".safetensors", ".pth", ".pt", ".bin")
_HEADS = (("",), tuple(f"layers.{n}." for n in (0, 2, 4, 6, 7)))
"""Names of the linear maps of each head, without `weight` and `bias`."""

Linear = tuple[Float32[np.ndarray, "o i"], Float32[np.ndarray, " o"]]


class ClipHead:
    """Scorer by a CLIP and an aesthetic head, in float32.

    Each frame passes alone through one program, so its score does not depend on the others.

    Raises:
        InputError: without a folder, or for one that lacks the CLIP or the head.
    """

    def __init__(self, folder: str | None):
        content = f"a folder with a CLIP in {TOWER}/ and the file of an aesthetic head"
        path = weights.resolve(plugins.require_folder("aesthetic", folder, content))
        tower = path / TOWER
        require(
            tower.is_dir(),
            f"aesthetic.folder {path} must hold a CLIPModel of transformers in {TOWER}/, found "
            "none; put it there",
        )
        head = _find_head(path)  # before the CLIP, which takes longer
        model, self._params = weights.load(tower, kind="clip", dtype=np.float32)
        self._head = read_head(head, model.config.width)
        self._rules = images_lib.read_config(tower, model.config.vit.image_size)
        self._embed = jax.jit(model.embed_images)

    def score(self, frames: clip_lib.Detail) -> float:
        """Returns the mean score of the frames."""
        return float(np.mean([self._score_one(frame) for frame in frames]))

    def _score_one(self, frame: np.ndarray) -> float:
        pixels = images_lib.prepare(frame, self._rules)[None]
        x = np.asarray(self._embed(self._params, pixels))  # (1, d), of unit length
        for weight, bias in self._head:
            x = x @ weight.T + bias
        return float(x[0, 0])


def read_head(path: pathlib.Path, width: int) -> list[Linear]:
    """Reads the linear maps of a head, in order.

    Args:
        path: Its file.
        width: Width of the embedding that it reads.

    Raises:
        InputError: for tensors of other names or shapes.
    """
    found, _ = tensors.open_single(path)
    layers = next((names for names in _HEADS if _parameters(names) == set(found)), None)
    if layers is None:
        raise InputError(
            f"aesthetic head {path} must hold weight and bias of one linear map, or of layers.0, "
            f"2, 4, 6 and 7, got {listed(sorted(found)) or 'none'}; name a head of such a layout"
        )
    head, inputs = [], width
    for name in layers:
        weight, bias = (_read(path, found, f"{name}{part}") for part in ("weight", "bias"))
        require(
            weight.ndim == 2 and weight.shape[1] == inputs and bias.shape == weight.shape[:1],
            f"aesthetic head {path} must read {inputs} numbers at {name or 'its map'}, got a "
            f"weight of shape {weight.shape} and a bias of {bias.shape}; use the head of this CLIP",
        )
        head.append((weight, bias))
        inputs = len(weight)
    require(
        inputs == 1,
        f"aesthetic head {path} must give one number, got {inputs}; name a head that predicts one",
    )
    return head


def _find_head(folder: pathlib.Path) -> pathlib.Path:
    found = sorted(p for p in folder.glob("[!.]*") if p.is_file() and p.suffix in _FORMATS)
    require(
        len(found) == 1,
        f"aesthetic.folder {folder} must hold one file with a head ({', '.join(_FORMATS)}), found "
        f"{listed([p.name for p in found]) or 'none'}; keep one there",
    )
    return found[0]


def _parameters(layers: tuple[str, ...]) -> set[str]:
    return {f"{name}{part}" for name in layers for part in ("weight", "bias")}


def _read(path: pathlib.Path, found: tensors.Tensors, name: str) -> Float32[np.ndarray, "..."]:
    return tensors.finite(name, found[name], str(path)).read().astype(np.float32)

# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of low-rank adapters (LoRA) in the layouts of other libraries.

transformer.LAYER.lora_A.weight          diffusers and peft; also lora_A.NAME.weight, lora_down
transformer.LAYER.lora.down.weight       diffusers before peft; also LAYER.processor.to_q_lora.down
lora_unet_LAYER_WITH_UNDERSCORES.lora_down.weight, .alpha             kohya
model.diffusion_model.LAYER.matrix_A.0                                SAT

A file states alpha in tensors, in `lora_adapter_metadata` of its header, or in
`adapter_config.json` beside `adapter_model.safetensors`; where it does not, alpha is the rank, as
diffusers takes it.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from mimir_jax import files
from mimir_jax.errors import InputError, listed
from mimir_jax.weights import peft, recognition, sat
from mimir_jax.weights import tensors as tensors_lib
from mimir_jax.weights.tensors import Tensor

FILE = "pytorch_lora_weights"
"""Name, without suffix, that diffusers looks for in a folder."""

_STEMS = (FILE, "adapter_model")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_FACTOR = re.compile(
    r"(.+?)(?:\.lora_(A|B|down|up)(?:\.(?!weight|bias)[^.]+)?|[._]lora\.(down|up))\.weight"
)
_ALPHA = re.compile(r"(.+?)(?:\.lora)?\.alpha")
_SIDES = {"A": "a", "down": "a", "B": "b", "up": "b"}
_TEXT = re.compile(r"(lora_te\d*_|text_encoder\d*\.).*")
_ENTRY = re.compile(r"(\^?)([\w.]+)\$?")  # of `alpha_pattern`, where it is no other expression
_MODEL = re.compile(r"^(?:(?:base_model|diffusion_model|model|module|transformer)\.)+")
_WRAPPERS = re.compile(
    r"(?:base_model_|diffusion_model_|model_|lora_|unet_|transformer_(?!blocks)|_)+"
)


@dataclasses.dataclass(frozen=True)
class Factors:
    """What is added to one published tensor: `scale * b @ a`.

    Attributes:
        a: (rank, in), of a convolution (rank, in, *kernel).
        b: (out, rank), of a convolution (out, rank, 1, 1).
        scale: Alpha over rank.
    """

    a: Tensor
    b: Tensor
    scale: float

    def product(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the sum's second term as float32, of the `shape` of the tensor."""
        a, b = (x.read().astype(np.float32) for x in (self.a, self.b))
        with np.errstate(over="ignore", invalid="ignore"):
            flat = b.reshape(b.shape[0], -1) @ a.reshape(a.shape[0], -1)
        return np.float32(self.scale) * flat.reshape(shape)


def open_file(path: pathlib.Path) -> dict[str, Factors]:
    """Lists the adapters in a file or folder by layer; see `plain` for the names of layers.

    Raises:
        InputError: if it holds none, or others than low-rank ones.
    """
    file = _find(path)
    found = recognition.unwrapped(tensors_lib.open_single(file)[0])
    is_sat = sat.is_transformer(found)
    found = sat.transformer(found)
    sides: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, Tensor] = {}
    written: dict[str, str] = {}
    left = []
    for name, tensor in found.items():
        tensor = tensors_lib.finite(name, tensor, str(file))
        if _TEXT.fullmatch(name):
            left.append(name)
        elif match := _FACTOR.fullmatch(name):
            side = sides.setdefault(plain(match[1]), {})
            written[plain(match[1])] = match[1]
            if side.setdefault(_SIDES[match[2] or match[3]], tensor) is not tensor:
                raise InputError(f"adapters {file} must have each factor once, got {name} again")
        elif match := _ALPHA.fullmatch(name):
            alphas[plain(match[1])] = tensor
        elif not is_sat:  # whose files hold the whole network
            raise InputError(
                f"adapters {file} must hold pairs of low-rank factors alone, got {name}; merge it "
                "with the library that wrote it"
            )
    if left:
        logging.warning("adapters %s: %d tensors of text encoders not read", file, len(left))
    if is_sat and sides:
        logging.warning(
            "adapters %s state no alpha, taken as the rank; SAT trains with alpha 1 unless its "
            "config says another: then the scale is alpha / rank",
            file,
        )
    return _paired(file, sides, alphas, written)


def require_network(folder: pathlib.Path) -> None:
    """Raises `InputError` if a folder holds adapters and no network."""
    found = [
        f"{stem}{x}" for stem in _STEMS for x in _SUFFIXES if (folder / f"{stem}{x}").is_file()
    ]
    if found:
        raise InputError(
            f"weights {folder} must be a network, got adapters alone ({found[0]}); name what they "
            f"trained on, and merge them with --lora {folder}"
        )


def _paired(
    file: pathlib.Path,
    sides: Mapping[str, Mapping[str, Tensor]],
    alphas: Mapping[str, Tensor],
    written: Mapping[str, str],
) -> dict[str, Factors]:
    if not sides:
        raise InputError(
            f"adapters {file} must hold low-rank factors of a network, got none; name a LoRA file"
        )
    torn = [layer for layer, pair in sides.items() if len(pair) < 2]
    odd = [
        layer
        for layer, pair in sides.items()
        if len(pair) == 2
        and (min(len(x.shape) for x in pair.values()) < 2 or _rank(pair) != pair["b"].shape[1])
    ]
    if wrong := torn + odd + [layer for layer in alphas if layer not in sides]:
        raise InputError(
            f"adapters {file} must hold two factors of one rank for each layer, not so: "
            f"{listed(wrong)}; download the file again"
        )
    settings = _Settings.read(file)
    out = {}
    for layer, pair in sides.items():
        alpha = alphas.get(layer)
        if alpha is not None:
            if math.prod(alpha.shape) != 1:
                raise InputError(
                    f"adapters {file} must state alpha of {layer} as one number, got shape "
                    f"{alpha.shape}; download the file again"
                )
            scale = float(alpha.read().astype(np.float32).reshape(-1)[0]) / _rank(pair)
        else:
            scale = settings.scale(written[layer], _rank(pair))
        out[layer] = Factors(pair["a"], pair["b"], scale)
    return out


def _rank(pair: Mapping[str, Tensor]) -> int:
    return pair["a"].shape[0]


def _find(path: pathlib.Path) -> pathlib.Path:
    if path.is_file():
        if path.suffix in _SUFFIXES:
            return path
    elif path.is_dir():
        found = [p for s in _STEMS for x in _SUFFIXES if (p := path / f"{s}{x}").is_file()]
        if found:
            return found[0]
        for pattern in (*(f"*{suffix}" for suffix in _SUFFIXES), f"**/{sat.FILE}"):
            found = sorted(p for p in path.glob(pattern) if not p.name.startswith("."))
            if len(found) > 1:
                names = [str(p.relative_to(path)) for p in found]
                raise InputError(
                    f"adapters {path} must be a folder with one LoRA file, found {listed(names)}; "
                    "name one of them"
                )
            if found:
                return found[0]
    raise InputError(
        f"adapters {path} must be a LoRA file ({', '.join(_SUFFIXES)}) or a folder with one, found "
        "none"
    )


def plain(layer: str) -> str:
    """Returns the name of a layer with underscores and without what libraries put around it."""
    layer = re.sub(r"\.processor\.to_out$", ".to_out.0", layer).replace(".processor.", ".")
    layer = layer.replace(".", "_")
    return layer[match.end() :] if (match := _WRAPPERS.match(layer)) else layer


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What a config of peft says of alpha."""

    values: Mapping[str, Any]
    file: pathlib.Path

    @classmethod
    def read(cls, file: pathlib.Path) -> "_Settings":
        """Reads the settings of a file, from its header or from beside it."""
        stated = tensors_lib.metadata(file).get("lora_adapter_metadata")
        config = file.parent / peft.CONFIG_FILE
        values: Any = {}
        if stated is not None:
            try:
                found = json.loads(stated).items()  # of each network, behind its name
                values = {n.rpartition(".")[2]: x for n, x in found if not _TEXT.fullmatch(n)}
            except (ValueError, AttributeError, RecursionError):
                raise InputError(
                    f"adapters {file} must state their settings as JSON; write them again"
                ) from None
        elif file.stem == "adapter_model" and config.is_file():
            values = files.read_json(config, "config of adapters")
        if values.get("use_dora"):
            raise InputError(f"adapters {file} must not be of DoRA; merge them with peft")
        return cls(values, file)

    def scale(self, layer: str, rank: int) -> float:
        """Returns alpha over rank for a layer, by its name in the file.

        An entry of `alpha_pattern` is the end of a name, or all of it behind a `^`; the first that
        fits counts, as in peft.
        """
        values, layer = self.values, _MODEL.sub("", layer)
        try:
            alpha = values.get("lora_alpha", rank)
            for pattern, own in reversed((values.get("alpha_pattern") or {}).items()):
                if (match := _ENTRY.fullmatch(pattern)) is None:
                    raise InputError(
                        f"adapters {self.file} must name layers in alpha_pattern, got the pattern "
                        f"{pattern!r:.80}; merge them with peft"
                    )
                if layer == match[2] or (not match[1] and layer.endswith(f".{match[2]}")):
                    alpha = own
            over = math.sqrt(rank) if values.get("use_rslora") else rank
            scale = float(alpha) / over
        except InputError:
            raise
        except (TypeError, ValueError, AttributeError):
            scale = math.nan
        if not math.isfinite(scale):
            raise InputError(
                f"adapters {self.file} must state lora_alpha as a number, got "
                f"{values.get('lora_alpha')!r:.40}; correct their settings"
            )
        return scale

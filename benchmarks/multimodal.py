# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Speed of LLaVA in mimir_jax and in transformers, on the same weights, tokens and images.

    python benchmarks/multimodal.py [--case small] [--device cpu] [--rounds 3]

Times the features of images, the states of prompts with two images each, which condition VIMI,
and their logits. PyTorch runs eagerly. On a GPU both sides compute in bfloat16. Writes
docs/results/. Needs the `test` extra.
"""

import dataclasses
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `benchmarks`, which is no package of the distribution

from benchmarks import harness  # noqa: E402
from mimir_jax.cli import host  # noqa: E402
from mimir_jax.config import LlavaConfig, LLMConfig, ViTConfig  # noqa: E402

PHASES = ("features of images", "states of prompts", "logits of prompts")


@dataclasses.dataclass(frozen=True)
class Case:
    """Network and inputs of a case.

    Attributes:
        llava: The network.
        batch_size: Number of prompts, each with two images.
        words: Tokens of text per prompt.
    """

    llava: LlavaConfig
    batch_size: int
    words: int = 60


CASES = {
    "small": Case(
        LlavaConfig(
            vit=ViTConfig(
                image_size=224, width=384, num_layers=8, num_heads=6, mlp_dim=1536
            ),
            llm=LLMConfig(
                vocab_size=8192, width=576, num_layers=8, num_heads=9, num_kv_heads=3,
                head_dim=64, mlp_dim=1536,
            ),
            image_token=8000,
        ),
        2,
    ),
    "full": Case(LlavaConfig(), 1),
}  # fmt: skip


def make(case: Case, folder: pathlib.Path, device: str) -> None:
    """Saves a random LLaVA of transformers."""
    del device
    import torch
    import transformers

    torch.manual_seed(0)
    vit, llm = case.llava.vit, case.llava.llm
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            image_size=vit.image_size, patch_size=vit.patch, hidden_size=vit.width,
            num_hidden_layers=vit.num_layers, num_attention_heads=vit.num_heads,
            intermediate_size=vit.mlp_dim,
        ),
        text_config=transformers.LlamaConfig(
            vocab_size=llm.vocab_size, hidden_size=llm.width, intermediate_size=llm.mlp_dim,
            num_hidden_layers=llm.num_layers, num_attention_heads=llm.num_heads,
            num_key_value_heads=llm.num_kv_heads, head_dim=llm.head_dim,
            max_position_embeddings=4096,
        ),
        image_token_index=case.llava.image_token,
        image_seq_length=case.llava.tokens_per_image,
    )  # fmt: skip
    transformers.LlavaForConditionalGeneration(config).save_pretrained(str(folder / "llava"))


def inputs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Draws the tokens of prompts and their normalised images."""
    rng, cfg = np.random.default_rng(0), case.llava
    rows = []
    for _ in range(case.batch_size):
        words = rng.integers(3, 7000, case.words).tolist()
        image = [cfg.image_token] * cfg.tokens_per_image
        rows.append([*words[:20], *image, *words[20:40], *image, *words[40:]])
    size = (2 * case.batch_size, cfg.vit.image_size, cfg.vit.image_size, 3)
    return np.array(rows), rng.normal(size=size).astype(np.float32)


class Ours:
    """The side of mimir_jax."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        host.prepare_host()
        import jax
        import jax.numpy as jnp

        import mimir_jax

        dtype = jnp.float32 if device == "cpu" else jnp.bfloat16
        model, self._params = mimir_jax.load(folder / "llava", dtype=dtype)
        ids, pixels = (jnp.asarray(x) for x in inputs(case))
        self._calls = {
            "features of images": (jax.jit(model.project), (pixels,)),
            "states of prompts": (jax.jit(model.encode), (ids, None, pixels)),
            "logits of prompts": (
                jax.jit(lambda *args: model.apply(*args).logits),
                (ids, None, pixels),
            ),
        }

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        function, args = self._calls[phase]
        return np.asarray(function(self._params, *args), np.float32)


class Theirs:
    """The side of transformers."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        import torch
        import transformers

        self._torch = torch
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self._model = transformers.LlavaForConditionalGeneration.from_pretrained(
            folder / "llava", dtype=dtype
        )
        self._model = self._model.to(device).eval()
        ids, pixels = inputs(case)
        self._ids = torch.tensor(ids).to(device)
        self._pixels = torch.tensor(pixels).permute(0, 3, 1, 2).to(device, dtype)

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        with self._torch.inference_mode():
            match phase:
                case "features of images":
                    found = self._model.get_image_features(pixel_values=self._pixels)
                    out = self._torch.stack(list(found.pooler_output))
                case "states of prompts":
                    out = self._model.model(input_ids=self._ids, pixel_values=self._pixels)
                    out = out.last_hidden_state
                case "logits of prompts":
                    out = self._model(input_ids=self._ids, pixel_values=self._pixels).logits
            return out.float().cpu().numpy()


def describe(case: Case, device: str) -> str:
    """Describes a case."""
    del device
    cfg = case.llava
    length = case.words + 2 * cfg.tokens_per_image
    return (
        f"Tower of {cfg.vit.num_layers} layers, width {cfg.vit.width}, at {cfg.vit.image_size} "
        f"pixels; decoder of {cfg.llm.num_layers} layers, width {cfg.llm.width}; "
        f"{case.batch_size} prompts of {length} tokens, two images among them."
    )


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="multimodal",
            sides={"ours": Ours, "transformers": Theirs},
            phases=PHASES,
            cases=CASES,
            make=make,
            describe=describe,
            peers=("torch", "transformers"),
        )
    )

# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Speed of the text encoders of mimir_jax and transformers on the same weights and tokens.

    python benchmarks/text.py [--case small] [--device cpu] [--rounds 3]

Times the states of T5, the states of the LLM for a prompt, the matrix products of either alone,
and greedy answers of the LLM, whose tokens are compared. PyTorch runs eagerly, as its `generate`
does by default. On a GPU all sides compute in bfloat16. Writes docs/results/. Needs the `test`
extra.
"""

import dataclasses
import functools
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `benchmarks`, which is no package of the distribution

from benchmarks import harness, products  # noqa: E402
from mimir_jax.cli import host  # noqa: E402
from mimir_jax.config import LLMConfig, T5Config  # noqa: E402

PHASES = ("T5 states", "T5 products", "LLM states", "LLM products", "LLM answers")


@dataclasses.dataclass(frozen=True)
class Case:
    """Networks and inputs of a case.

    Attributes:
        t5: The encoder.
        llm: The decoder, in the Phi-3 layout.
        batch_size: Number of prompts.
        length: Tokens per prompt.
        answer_length: Tokens per answer.
    """

    t5: T5Config
    llm: LLMConfig
    batch_size: int = 4
    length: int = 226
    answer_length: int = 64


CASES = {
    "small": Case(
        T5Config(
            vocab_size=8192, width=512, num_layers=6, num_heads=6, head_dim=64, mlp_dim=1024
        ),
        LLMConfig(
            vocab_size=8192, width=576, num_layers=8, num_heads=9, num_kv_heads=3, head_dim=64,
            mlp_dim=1536,
        ),
    ),
    "full": Case(T5Config(), LLMConfig()),
}  # fmt: skip


def make(case: Case, folder: pathlib.Path, device: str) -> None:
    """Saves random encoders of transformers."""
    del device
    import torch
    import transformers

    torch.manual_seed(0)
    cfg = case.t5
    transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=cfg.vocab_size, d_model=cfg.width, d_kv=cfg.head_dim, d_ff=cfg.mlp_dim,
            num_layers=cfg.num_layers, num_heads=cfg.num_heads, feed_forward_proj="gated-gelu",
        )
    ).save_pretrained(str(folder / "t5"))  # fmt: skip
    cfg = case.llm
    transformers.Phi3ForCausalLM(
        transformers.Phi3Config(
            vocab_size=cfg.vocab_size, hidden_size=cfg.width, intermediate_size=cfg.mlp_dim,
            num_hidden_layers=cfg.num_layers, num_attention_heads=cfg.num_heads,
            num_key_value_heads=cfg.num_kv_heads, max_position_embeddings=4096, pad_token_id=0,
            bos_token_id=1, eos_token_id=2,
        )
    ).save_pretrained(str(folder / "llm"))  # fmt: skip


def inputs(case: Case) -> dict[str, np.ndarray]:
    """Draws the tokens of both encoders."""
    rng, size = np.random.default_rng(0), (case.batch_size, case.length)
    return {name: rng.integers(3, getattr(case, name).vocab_size, size) for name in ("t5", "llm")}


def products_of(case: Case, name: str) -> tuple[list[products.Product], int]:
    """Returns the matrix products of a layer of `t5` or `llm`, and the number of layers."""
    cfg = getattr(case, name)
    sizes = {x: getattr(cfg, x) for x in ("width", "head_dim", "mlp_dim")}
    kv_heads = case.llm.num_kv_heads if name == "llm" else None
    layer = products.of_layer(
        batch=case.batch_size, tokens=case.length, heads=cfg.num_heads, kv_heads=kv_heads, **sizes
    )
    return layer, cfg.num_layers


class Ours:
    """The side of mimir_jax."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        host.prepare_host()
        import jax
        import jax.numpy as jnp

        import mimir_jax
        from mimir_jax.encoders import decoding

        self._case, self._decoding = case, decoding
        dtype = jnp.float32 if device == "cpu" else jnp.bfloat16
        t5, self._t5_params = mimir_jax.load(folder / "t5", dtype=dtype)
        self._llm, self._llm_params = mimir_jax.load(folder / "llm", dtype=dtype)
        self._states, self._read = jax.jit(t5.apply), jax.jit(self._llm.apply)
        self._inputs = {name: jnp.asarray(x) for name, x in inputs(case).items()}
        self._products = functools.cache(
            lambda name: products.OfJax(*products_of(case, name), dtype)
        )

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        match phase:
            case "T5 products" | "LLM products":
                return self._products(phase.split()[0].lower()).run()
            case "T5 states":
                out = self._states(self._t5_params, self._inputs["t5"])
            case "LLM states":
                out = self._read(self._llm_params, self._inputs["llm"]).last_hidden_state
            case "LLM answers":
                out = self._decoding.generate(
                    self._llm,
                    self._llm_params,
                    self._inputs["llm"],
                    max_new_tokens=self._case.answer_length,
                )
        return np.asarray(out, np.float32)


class Theirs:
    """The side of transformers."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        import torch
        import transformers

        self._case, self._torch = case, torch
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self._t5 = transformers.T5EncoderModel.from_pretrained(folder / "t5", dtype=dtype)
        self._llm = transformers.Phi3ForCausalLM.from_pretrained(folder / "llm", dtype=dtype)
        self._t5, self._llm = self._t5.to(device).eval(), self._llm.to(device).eval()
        self._inputs = {name: torch.tensor(x).to(device) for name, x in inputs(case).items()}
        self._products = functools.cache(
            lambda name: products.OfTorch(*products_of(case, name), dtype, device)
        )

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        with self._torch.inference_mode():
            match phase:
                case "T5 products" | "LLM products":
                    return self._products(phase.split()[0].lower()).run()
                case "T5 states":
                    out = self._t5(self._inputs["t5"]).last_hidden_state
                case "LLM states":
                    out = self._llm(self._inputs["llm"], output_hidden_states=True).hidden_states[
                        -1
                    ]
                case "LLM answers":
                    ids = self._inputs["llm"]
                    out = self._llm.generate(
                        ids,
                        attention_mask=self._torch.ones_like(ids),
                        max_new_tokens=self._case.answer_length,
                        do_sample=False,
                        eos_token_id=None,
                    )[:, ids.shape[1] :]
            return out.float().cpu().numpy()


def describe(case: Case, device: str) -> str:
    """Describes a case."""
    del device
    return (
        f"T5 of {case.t5.num_layers} layers, width {case.t5.width}; LLM of {case.llm.num_layers} "
        f"layers, width {case.llm.width}, {case.llm.num_heads} heads on "
        f"{case.llm.num_kv_heads}; {case.batch_size} prompts of {case.length} tokens, answers of "
        f"{case.answer_length}."
    )


def conclude(case: Case, device: str, rows: list[dict]) -> str:
    """Says how much of the states are matrix products, and what these leave to win."""
    del case, device
    found = {row["phase"]: row for row in rows}
    lines = []
    for name in ("T5", "LLM"):
        if not {f"{name} states", f"{name} products"} <= set(found):
            continue
        states, alone = found[f"{name} states"], found[f"{name} products"]
        shares = {
            side: 100 * alone["cpu"][side] / states["cpu"][side]
            for side in ("ours", "transformers")
            if side in states["cpu"] and side in alone["cpu"]
        }
        told = ", ".join(f"{share:.0f} % of the CPU time of {s}" for s, share in shares.items())
        lines.append(f"{name}: matrix products alone take {told}.")
        if "transformers" in shares:
            bound = states["cpu"]["transformers"] / alone["cpu"]["ours"]
            lines[-1] += (
                f" If ours did nothing else, transformers would take {bound:.2f} times as long."
            )
    return "\n\n".join(lines)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="text",
            sides={"ours": Ours, "transformers": Theirs},
            phases=PHASES,
            cases=CASES,
            make=make,
            describe=describe,
            peers=("torch", "transformers"),
            conclude=conclude,
        )
    )

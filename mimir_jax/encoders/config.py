# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the frozen encoders of text, first frames and prompts with images."""

import dataclasses
from typing import Literal

from mimir_jax.config import checks
from mimir_jax.models.config import DType, Quantization

INSTRUCTIONS = (
    "List every object in the video and how many there are.",
    "Describe the colour and the attributes of every object.",
    "Describe where the objects are in relation to each other.",
    "Describe the actions in order and how the light changes over time.",
)
"""The four instruction prompts of the semantic stabilizer (M-U12)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Caption to features: the frozen encoders and what is read from them.

    Attributes:
        t5_path: Folder of T5: weights, config and tokenizer; `package:NAME` ships with mimir_jax.
        llm_path: Folder of the LLM, likewise, or a GGUF file; `gguf:NAME` names that of an
            installed Python package. Read by Mimir alone.
        dtype: Dtype of the encoders; None keeps the stored one.
        quantize: 8-bit kernels of the encoders: `int8` or `fp8` weights, or int8 weights and
            activations.
        length: Positions of both feature sequences, padded or truncated on the right (M-U4).
        llm_layer: Hidden state read from the LLM, -1 is the last after its norm (M-U2).
        llm_tokens: LLM states that enter the sum: of the prompt, of sampled answers, or the prompt
            followed by an answer (M-U3).
        num_answers: Sampled answers kept per caption; training draws one each step (M-U3).
        answer_length: New tokens per answer; None fills what the prompt leaves of `length`.
        answer_temperature: Temperature of sampled answers; 0 takes the likeliest token (M-U28).
        answer_top_p: Probability mass that sampled answers are drawn from (M-U28).
        system: System turn before the caption's and the instructions' turns; None has none (M-U27).
        instructions: One instruction per stabilizer token (M-U12).
        instruction_length: Tokens of an instruction turn; its caption is cut on the right (M-U4).
        instruction_prompt: Whether the caption accompanies each instruction (M-U13).
        null: Text of the unconditional branch: zeros, or the features of an empty caption (M-U17).
    """

    t5_path: str | None = None
    llm_path: str | None = None
    dtype: DType | None = None
    quantize: Quantization = "off"
    length: int = 226
    llm_layer: int = -1
    llm_tokens: Literal["query", "answer", "query+answer"] = "query+answer"
    num_answers: int = 4
    answer_length: int | None = None
    answer_temperature: float = 0.8
    answer_top_p: float = 0.9
    system: str | None = None
    instructions: tuple[str, ...] = INSTRUCTIONS
    instruction_prompt: Literal["caption+instruction", "instruction"] = "caption+instruction"
    instruction_length: int = 320
    null: Literal["zero", "empty"] = "zero"

    def __post_init__(self):
        for name in ("num_answers", "length", "instruction_length", "answer_length"):
            checks.within(self, name, 1)
        checks.within(self, "answer_temperature", 0)
        checks.within(self, "answer_top_p", 0, 1, above=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstFrameConfig:
    """The first frame of a video to what an image-to-video transformer reads of it.

    Its latents stand behind the noisy ones along the channels, at the first frame of what the
    transformer sees; the other frames have zeros there. Training and sampling share these fields.

    Attributes:
        latent_scale: What the latents of the VAE are multiplied by: its scaling factor (`scaled`),
            nothing (`raw`), or one over the factor (`inverse`) (I-U1).
        noise_draws: Noisy copies of each first frame, encoded once; training draws one each step.
            0 trains on clean frames (I-U2).
        noise_log_mean, noise_log_std: Normal distribution of the logarithm of the deviation of that
            noise, of pixels in [-1, 1] (I-U2).
        dropout: Share of samples trained without the first frame, whose latents are zero (I-U3).
        continuation: Share of samples that read more of their own clip than its first frame: its
            first latent frames, from two to all but one. The model then continues videos (I-U7).
        posterior: Whether training reads a sample of the VAE's posterior or its mean; sampling
            reads the mean (I-U4).
        ofs: Value of the `ofs` embedding of 1.5 models (I-U5).
        fit: How an image of another shape becomes a frame: `crop` cuts off the ends of the longer
            side, `pad` keeps all of it between black bars (I-U6).
    """

    latent_scale: Literal["scaled", "raw", "inverse"] = "scaled"
    noise_draws: int = 1
    noise_log_mean: float = -3.0
    noise_log_std: float = 0.5
    dropout: float = 0.05
    continuation: float = 0.0
    posterior: Literal["sample", "mean"] = "sample"
    ofs: float = 2.0
    fit: Literal["crop", "pad"] = "crop"

    def __post_init__(self):
        for name in ("noise_draws", "noise_log_std", "ofs"):
            checks.within(self, name, 0)
        for name in ("dropout", "continuation"):
            checks.within(self, name, 0, 1)

    def factor(self, scaling_factor: float) -> float:
        """Returns what latents of a VAE with `scaling_factor` are multiplied by."""
        powers = {"scaled": 1, "raw": 0, "inverse": -1}
        return float(scaling_factor) ** powers[self.latent_scale]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Images to the inputs of an image tower. The defaults are CLIP's at 336 pixels.

    Attributes:
        resize: The shorter side after resizing, or height and width; empty keeps the size.
        crop: Height and width of the centre that is kept, black where the image ends before;
            empty keeps all.
        fit: `crop` cuts off the ends of a longer side. `pad` first pads the shorter side with the
            mean colour to a square, as LLaVA's own code does; then nothing is lost.
        resample: Filter of resizing: 0 nearest, 2 bilinear, 3 bicubic, 1 Lanczos, antialiased.
        scale: Factor of the pixels, 0..255.
        mean, std: Subtracted from the scaled pixels, and divided by, per channel.
    """

    resize: tuple[int, ...] = (336,)
    crop: tuple[int, ...] = (336, 336)
    fit: Literal["crop", "pad"] = "crop"
    resample: int = 3
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self):
        for name in ("resize", "crop"):
            value = getattr(self, name)
            checks.check(self, all(x >= 1 for x in value), f"{{{name}}} must be at least 1")
        checks.check(self, len(self.resize) <= 2, "{resize} must be one or two sizes")
        checks.check(self, len(self.crop) in (0, 2), "{crop} must be height and width")
        checks.check(self, self.resample in (0, 1, 2, 3), "{resample} must be within 0..3")
        for name in ("mean", "std"):
            three = len(getattr(self, name)) == 3
            checks.check(
                self, three, f"{{{name}}} must hold a number per channel, red, green, blue"
            )
        checks.check(self, all(x > 0 for x in self.std), "{std} must be above 0")


SUBJECT_INSTRUCTIONS = (
    "Generate a video with the text and images.",
    "Make a video of the text in which these images appear.",
    "Create a video from the text; the images show its subjects and places.",
    "Use the subjects of the images in a video of the text.",
    "Animate what the images show as the text tells.",
    "Put the objects of the images into a video that follows the text.",
)
PREDICTION_INSTRUCTIONS = (
    "Generate a video with the text and first frame.",
    "Make a video of the text that starts with this frame.",
    "Continue the first frame into a video as the text tells.",
    "Predict the frames that follow this one, given the text.",
    "Create a video whose first frame is the image and whose content is the text.",
    "Animate the first frame so that it shows the text.",
)
RETRIEVAL_INSTRUCTIONS = (
    "Generate a video with the retrieved text-image pair and the text.",
    "Make a video of the text; the retrieved text and image may help.",
    "Create a video of the last text, with the retrieved text and image as a reference.",
    "Use the retrieved image and its text to make a video of the text.",
    "With the help of the retrieved document, generate a video of the text.",
    "Show the text in a video, informed by the retrieved text and image.",
)
"""Instructions of the three tasks of VIMI; the figure has the first of each, cut off (V-U15)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultimodalConfig:
    """States of prompts with images from a frozen multimodal LLM (VIMI, arXiv 2407.06304).

    Attributes:
        path: Folder of a LLaVA: weights, config, tokenizer and image processor (V-U1).
        dtype: Dtype of the network; None keeps the stored one.
        quantize: 8-bit kernels of its image tower and decoder: `int8` or `fp8` weights, or int8
            weights and activations.
        layer: Hidden state that is read, -1 is the last after its norm (V-U2).
        length: Positions of a prompt, including images; padded on the right (V-U6).
        fit: Fit of images that are not square; None takes that of the folder.
        turn: Whether a prompt is the user turn of the chat template, or plain.
        pretraining_instruction: Whether prompts of the first stage begin with an instruction.
        subject, prediction, retrieval: Instructions of the three tasks of the second stage;
            training samples one each time, sampling takes the first (V-U15).
    """

    path: str | None = None
    dtype: DType | None = None
    quantize: Quantization = "off"
    layer: int = -1
    length: int = 2048
    fit: Literal["crop", "pad"] | None = None
    turn: Literal["chat", "plain"] = "chat"
    pretraining_instruction: bool = False
    subject: tuple[str, ...] = SUBJECT_INSTRUCTIONS
    prediction: tuple[str, ...] = PREDICTION_INSTRUCTIONS
    retrieval: tuple[str, ...] = RETRIEVAL_INSTRUCTIONS

    def __post_init__(self):
        checks.within(self, "length", 1)
        for name in ("subject", "prediction", "retrieval"):
            given = getattr(self, name)
            checks.check(self, bool(given) and all(given), f"{{{name}}} must name an instruction")

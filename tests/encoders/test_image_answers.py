# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from mimir_jax import weights
from mimir_jax.encoders import image_answers, images
from mimir_jax.errors import InputError
from tests.encoders.test_multimodal import LLAVA_TEMPLATE

QUESTIONS = ["What is it?", "Describe the image in detail, with all colours."]
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def folder(llava_folder, tmp_path):
    """A LLaVA as transformers has it, whose chat template is that of its processor."""
    folder = tmp_path / "llava"
    weights.convert(llava_folder, folder, to="transformers")
    for file in llava_folder.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def add_template(folder):
    content = json.dumps({"chat_template": LLAVA_TEMPLATE})
    (folder / "chat_template.json").write_text(content)


def test_a_folder_without_a_template_is_one_line(folder):
    with pytest.raises(InputError, match="must hold a chat template, got none; add the chat_"):
        image_answers.ImageAnswers(folder, QUESTIONS, max_new_tokens=2)
    add_template(folder)
    with pytest.raises(InputError, match="must not hold the token '<image>', got"):
        image_answers.ImageAnswers(folder, ["<image>"], max_new_tokens=2)
    with pytest.raises(InputError, match="must fit the 4096 positions of LLaVA .*; shorten them"):
        image_answers.ImageAnswers(folder, QUESTIONS, max_new_tokens=4096)


@pytest.mark.torch
def test_answers_are_those_of_transformers(folder):
    torch = pytest.importorskip("torch")
    import transformers

    add_template(folder)
    ours = image_answers.ImageAnswers(folder, QUESTIONS, max_new_tokens=8)
    theirs = transformers.LlavaForConditionalGeneration.from_pretrained(str(folder)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    size = theirs.config.vision_config.image_size
    pixels = images.prepare(IMAGE, images.with_fit(images.read_config(folder, size), "pad"))
    want = []
    for question in QUESTIONS:
        turn = f"USER: {'<image>' * 4}\n{question} ASSISTANT:"
        ids = tokenizer(turn, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            tokens = theirs.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=torch.tensor(pixels).permute(2, 0, 1)[None],
                max_new_tokens=8,
                do_sample=False,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        want.append(tokenizer.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True).strip())
    assert ours.answer(IMAGE) == want and all(want)

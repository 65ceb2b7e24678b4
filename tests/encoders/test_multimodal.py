# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from mimir_jax import weights
from mimir_jax.config import (
    BM25Config,
    LlavaConfig,
    LLMConfig,
    MultimodalConfig,
    RetrievalConfig,
    ViTConfig,
)
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.encoders import images, interleaved, multimodal, tokenizers
from mimir_jax.encoders.interleaved import Document, Prompt, Text
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.llava import model as llava
from mimir_jax.retrieval import building, documents, memory
from mimir_jax.retrieval.retriever import Retriever
from tests.helpers import relative_error

RNG = np.random.default_rng(0)
CFG = MultimodalConfig(length=64)
CAT, BENCH = (RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((9, 12, 3), (20, 8, 3)))
LLAVA_TEMPLATE = (  # as LLaVA-1.5 has it: all images, then all texts
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small random LLaVA with a tokenizer."""
    folder = tmp_path_factory.mktemp("llava")
    texts = ["A red cat sits on the green bench.", *CFG.subject, *CFG.prediction, *CFG.retrieval]
    tokenizers.train(texts, folder / "words", kind="llm", vocab_size=400)
    tokenizer = tokenizers.load(folder / "words")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    cfg = LlavaConfig(
        vit=ViTConfig(image_size=8, patch=4, width=12, num_layers=2, num_heads=2, mlp_dim=16),
        llm=LLMConfig(vocab_size=len(tokenizer), width=16, num_layers=2, num_heads=2,
                      num_kv_heads=2, head_dim=8, mlp_dim=24),
        image_token=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = functional.build(llava.Llava, cfg)
    params = jax.jit(model.init)(jax.random.key(0))
    weights.save(folder / "llava", "llava", cfg, params)
    tokenizer.save_pretrained(str(folder / "llava"))
    return folder / "llava"


@pytest.fixture(scope="module")
def encoder(folder):
    return multimodal.MultimodalEncoder(dataclasses.replace(CFG, path=str(folder)))


def shown(prompt):
    """A prompt as text, its images as the letter of their name."""
    names = {id(CAT): "[cat]", id(BENCH): "[bench]"}
    return "".join(p.text if isinstance(p, Text) else names[id(p)] for p in prompt.segments)


def test_layouts_are_those_of_the_paper():
    document = Document("a cat", CAT)
    assert shown(interleaved.pretraining(CFG, "It sleeps.", document)) == "a cat\n[cat]\nIt sleeps."
    assert shown(interleaved.pretraining(CFG, "It sleeps.", None)) == "It sleeps."
    asked = dataclasses.replace(CFG, pretraining_instruction=True)
    first = shown(interleaved.pretraining(asked, "It sleeps.", document))
    assert first == f"{CFG.retrieval[0]}\na cat\n[cat]\nIt sleeps."
    assert shown(interleaved.retrieved(CFG, "It sleeps.", document)) == first
    assert shown(interleaved.retrieved(CFG, "It sleeps.", Document("", BENCH), 1)) == (
        f"{CFG.retrieval[1]}\n[bench]\nIt sleeps."
    )
    assert shown(interleaved.prediction(CFG, "It sleeps.", CAT, 2)) == (
        f"{CFG.prediction[2]}\nIt sleeps.\n[cat]"
    )
    text = "A <img> is sitting on the <img>."
    assert interleaved.subjects(CFG, text, [CAT, BENCH]).caption == "A is sitting on the."
    assert interleaved.retrieved(CFG, "It sleeps.", document).caption == "It sleeps."
    assert shown(interleaved.subjects(CFG, text, [CAT, BENCH], len(CFG.subject))) == (
        f"{CFG.subject[0]}\nA [cat] is sitting on the [bench]."
    )


def test_the_task_follows_from_the_request():
    compose = interleaved.compose
    assert shown(compose(CFG, "<img> sleeps", images=[CAT])).endswith("\n[cat] sleeps")
    assert shown(compose(CFG, "It sleeps", first_frame=CAT)).endswith("It sleeps\n[cat]")
    found = compose(CFG, "It sleeps", document=Document("cat", CAT))
    assert shown(found).endswith("cat\n[cat]\nIt sleeps")
    assert shown(compose(CFG, "It sleeps")) == "It sleeps"
    with pytest.raises(InputError, match="one of images, first_frame and a retrieved document"):
        compose(CFG, "<img> sleeps", images=[CAT], first_frame=CAT)


@pytest.mark.parametrize("text, number", [("A <img> and a <img>.", 1), ("A cat.", 1), ("<img>", 0)])
def test_images_must_fit_their_marks(text, number):
    message = f"a mark <img> for each image, got {text.count('<img>')} for {number} images"
    with pytest.raises(InputError, match=message):
        interleaved.parse(text, [CAT] * number)


def test_instructions_have_paraphrases():
    for texts in (CFG.subject, CFG.prediction, CFG.retrieval):
        assert len(set(texts)) == len(texts) >= 5
    assert CFG.prediction[0] == "Generate a video with the text and first frame."  # [page]


@pytest.mark.torch
def test_ids_equal_the_processor_of_transformers(encoder):
    import transformers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = encoder.tokenization.tokenizer
    size = {"height": 8, "width": 8}
    processor = transformers.LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size=size),
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    plain = dataclasses.replace(encoder.tokenization, turn="plain")
    prompt = interleaved.subjects(CFG, "A <img> sits on the <img>.", [CAT, BENCH])
    text = "".join(p.text if isinstance(p, Text) else "<image>" for p in prompt.segments)
    theirs = processor(images=[CAT, BENCH], text=text, return_tensors="np")
    assert plain.ids(prompt) == theirs["input_ids"][0].tolist()
    rules = images.ImageConfig(resize=(8,), crop=(8, 8))
    ours = [np.moveaxis(images.prepare(x, rules), 2, 0) for x in prompt.images]
    assert np.abs(np.stack(ours) - theirs["pixel_values"]).max() < 1e-5


def test_turns_keep_images_where_they_stand(encoder):
    tokenizer = encoder.tokenization.tokenizer
    prompt = interleaved.subjects(CFG, "A <img> on a <img>.", [CAT, BENCH])
    body = f"{CFG.subject[0]}\nA <image> on a <image>."
    assert tokenizer.chat_template == tokenizers.CHAT_TEMPLATE
    mark = encoder.tokenization.image_token
    ids = encoder.tokenization.ids(prompt)
    assert ids.count(mark) == 2 * 4
    shorter = [x for i, x in enumerate(ids) if x != mark or ids[i - 1] != mark]
    expected = f"<s><|user|> {body}<|end|>"  # the tokenizer puts a space before words
    assert tokenizer.decode(shorter).replace("> .", ">.") == expected
    try:
        tokenizer.chat_template = LLAVA_TEMPLATE
        assert encoder.tokenization.render(body) == f"USER: {body} "
        tokenizer.chat_template = "{{ bos_token }}"
        with pytest.raises(InputError, match="must show the text of a user's turn"):
            encoder.tokenization.ids(prompt)
    finally:
        tokenizer.chat_template = tokenizers.CHAT_TEMPLATE


@pytest.mark.slow
def test_states_are_those_of_the_network(encoder, folder):
    prompts = [
        interleaved.subjects(CFG, "A <img> on a <img>.", [CAT, BENCH]),
        interleaved.retrieved(CFG, "A cat.", None),
    ]
    features = encoder.encode(prompts)
    assert features.states.shape == (2, 64, encoder.width) and features.mask.shape == (2, 64)
    assert (features.states[~features.mask] == 0).all()
    model, params = weights.load(folder)
    pixels = np.stack([images.prepare(x, images.ImageConfig(resize=(8,), crop=(8, 8)))
                       for x in (CAT, BENCH)])  # fmt: skip
    ids = np.array([encoder.tokenization.ids(prompts[0])])
    expected = model.encode(params, ids, None, pixels)
    assert relative_error(features.states[0][features.mask[0]], expected[0]) < 1e-5
    again = encoder.encode(prompts[::-1])  # each row is a function of its prompt alone
    assert np.array_equal(again.states[::-1], features.states) and encoder.cache.hits == 2
    assert json.loads(json.dumps(encoder.identity()))["length"] == 64


def test_a_retrieved_document_enters_a_prompt(encoder, tmp_path):
    source = ToyworldSource("train", caption_style="short", height=16, width=16)
    store = memory.create(tmp_path / "m")
    store.append(documents.from_toyworld(store.folder, source, range(6)))
    search = Retriever(building.build(store, BM25Config()), RetrievalConfig())
    found = search.first(source.text(0), exclude=["train-0-000000"])
    image = store.read_image(found)
    prompt = interleaved.retrieved(CFG, source.text(0), Document(found.text, image))
    assert found.id != "train-0-000000" and prompt.images == [image]
    assert encoder.encode([prompt]).mask.sum() > encoder.tokenization.tokens_per_image


def test_long_prompts_lose_their_documents_text_first(encoder):
    fit = encoder.tokenization.fit
    prompt = interleaved.retrieved(CFG, "a red cat " * 3, Document("the green bench " * 20, CAT))
    fitting, rests = fit(prompt, 64)
    assert len(encoder.tokenization.ids(fitting)) <= 64 and len(fitting.images) == 1
    assert shown(fitting).startswith(CFG.retrieval[0]) and shown(fitting).endswith("a red cat ")
    assert len(rests) == 1 and rests[0].endswith("bench")
    assert encoder.truncated(prompt) == rests and encoder.encode([prompt]).mask.any()
    longer = interleaved.retrieved(CFG, "a red cat " * 30, Document("the bench", CAT))
    fitting, rests = fit(longer, 64)
    assert rests[0] == "the bench" and rests[1].endswith("cat") and "red cat" in shown(fitting)
    assert fit(interleaved.retrieved(CFG, "A cat.", None), 64)[1] == []
    with pytest.raises(InputError, match="must fit 18 tokens with its 4 images of 4, got"):
        fit(Prompt((CAT, CAT, CAT, CAT, Text("a cat"))), 18)


def test_the_image_token_is_reserved(encoder):
    with pytest.raises(InputError, match="must not hold the token '<image>'.* write <img>"):
        encoder.tokenization.ids(Prompt((Text("A <image>."),)))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_token": 30}, "must have the image token 30 of the LLM as a special token"),
        ({"image_token": 10**6}, "must have the image token 1000000"),
    ],
)
def test_tokenizers_without_the_token_are_refused(encoder, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(encoder.tokenization, **changes)


def test_misfits_are_refused_before_weights_are_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "load", None)
    config = MultimodalConfig(path=str(folder), length=4097)
    with pytest.raises(InputError, match="length must be at most the 4096 positions of .*; lower"):
        multimodal.MultimodalEncoder(config)
    place = tmp_path / "llava"
    shutil.copytree(folder, place)
    config = dataclasses.replace(CFG, path=str(place))
    (place / "preprocessor_config.json").write_text(json.dumps({"crop_size": 12}))
    with pytest.raises(InputError, match="must make the 8 x 8 pixels of the image tower, got 12"):
        multimodal.MultimodalEncoder(config)
    (place / "preprocessor_config.json").unlink()
    tokenizer = tokenizers.load(place)
    tokenizer.add_tokens(["beyond"])
    tokenizer.save_pretrained(str(place))
    with pytest.raises(InputError, match="must have ids below .*, the rows .* 'beyond'"):
        multimodal.MultimodalEncoder(config)


def test_configs_are_checked():
    with pytest.raises(InputError, match="subject must name an instruction"):
        MultimodalConfig(subject=())
    with pytest.raises(InputError, match="length must be at least 1, got 0"):
        MultimodalConfig(length=0)


def test_a_quantised_llava_is_near_and_has_an_identity_of_its_own(encoder, folder):
    config = dataclasses.replace(CFG, path=str(folder), quantize="int8")
    quantised = multimodal.MultimodalEncoder(config)
    prompts = [Prompt((Text("A red cat"), CAT))]
    ours, reference = (np.float64(e.encode(prompts).states) for e in (quantised, encoder))
    assert 0 < np.linalg.norm(ours - reference) < 0.05 * np.linalg.norm(reference)
    assert quantised.identity()["quantize"] == "int8" and "quantize" not in encoder.identity()
    targets = quantised.network.model.targets
    assert {path.split("/")[0] for path in targets} == {"vit", "llm"}

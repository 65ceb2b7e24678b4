# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""VIMI's two stages through everything that takes a system."""

import collections
import dataclasses
import json
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mimir_jax import config as c
from mimir_jax import systems, weights
from mimir_jax.data import sources
from mimir_jax.data.toyworld import captions, invented, renderer, subject_captions
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.diffusion import samplers
from mimir_jax.encoders import text
from mimir_jax.encoders.interleaved import Document, Text
from mimir_jax.errors import InputError
from mimir_jax.parallel import hardware
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.planning import aot
from mimir_jax.planning.config import Program
from mimir_jax.preparation import precompute
from mimir_jax.sampling import gallery, request, retrieval, video
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.request import Request
from mimir_jax.systems import diffusion
from mimir_jax.systems.vimi import encoder, presets, prompts
from mimir_jax.training import checkpoint, compiled_step, loop
from tests import commands, runs


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory") / "memory"
    runs.write_memory(folder, range(12))
    return folder


@pytest.fixture(scope="module")
def run(frozen, llava_folder, memory):
    return runs.vimi_run(frozen, llava_folder, memory)


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vimi") / "run"
    return folder, loop.train(run, folder)


@pytest.fixture(scope="module")
def pipeline(trained):
    return open_lib.open_pipeline(trained[0])


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    folder, scene = tmp_path_factory.mktemp("images"), ToyworldSource("train").scene(0)
    Image.fromarray(renderer.cut_out(scene.groups[0])).save(folder / "cut.png")
    Image.fromarray(renderer.render(scene, 1)[0]).save(folder / "first.png")
    (folder / "broken.png").write_bytes((folder / "cut.png").read_bytes()[:99])
    return folder


def final_params(config, workdir):
    one = mesh_lib.make_mesh(devices=jax.devices()[:1])
    step = compiled_step.make(config, systems.make_system(config), one)
    return jax.device_get(checkpoint.Checkpointer(workdir).restore(step.state)[0]).params


def words(prompt):
    return "".join(part.text if isinstance(part, Text) else "*" for part in prompt.segments)


def maker(run, **changes):
    """The prompts of a run; its encoder without the networks."""
    config = dataclasses.replace(run.system, **changes)
    source = sources.make_source(run.data, "train", seed=run.seed)
    retrieval = prompts.open_retrieval(config, run.seed)
    return prompts.PromptMaker(config, source, run.seed, retrieval), source


def test_images_stand_for_all_that_they_show():
    source = ToyworldSource("train", scenery="varied")
    for index in range(12):
        scene = source.scene(index)
        found = subject_captions.caption(scene, range(len(scene.groups)), mark="<img>", place=True)
        assert found.text.count("<img>") == len(found.images) > len(scene.groups)
        shown = {word for group in scene.groups for word in (group.shape, group.colour)}
        assert not shown & set(found.text.replace(",", "").split())
        assert all(word in found.words for word in shown)
    cut = renderer.cut_out(scene.groups[0], 48, 32)
    assert (cut[[0, -1]] == 255).all() and cut.min() < 255


def test_a_record_has_the_same_prompts_every_time(run):
    made, source = maker(run)
    record = source[3]
    again = maker(run)[0]
    drawn = [made.draw(record, number) for number in range(24)]
    assert [p.key() for p in drawn] == [again.draw(record, n).key() for n in range(24)]
    first_lines = collections.Counter(words(prompt).split("\n")[0] for prompt in drawn)
    assert len(first_lines) > 8  # tasks and wordings
    frames = [p for p in drawn if p.images and np.array_equal(p.images[-1], record["video"][0])]
    assert frames and all(len(p.images) <= run.system.tasks.max_images for p in drawn)


def test_a_clip_never_gets_its_own_document(run):
    made, source = maker(run, stage="pretrain", document_dropout=0.0)
    own = captions.caption(source.scene(1), "short")
    for number in range(12):
        prompt = made.draw(source[1], number)
        text, image, caption = words(prompt).split("\n")
        assert image == "*" and caption == source[1]["caption"] and text != own
    dropped, _ = maker(run, stage="pretrain", document_dropout=1.0)
    assert words(dropped.draw(source[1], 0)) == source[1]["caption"]
    none, _ = maker(run, stage="pretrain", memory_path=None)
    assert not none.draw(source[1], 0).images


def test_invented_names_are_explained_by_the_document_alone(run):
    made, source = maker(run, stage="pretrain", invented_names=1.0, memory_path=None)
    for index in range(6):
        text, image, caption = words(made.draw(source[index], 0)).split("\n")
        name = text.removeprefix("a ")
        assert image == "*" and name in invented.NAMES["train"] and name in caption
    instructed, _ = maker(run, invented_names=1.0)
    assert len(words(instructed.draw(source[0], 0, task="retrieval")).split("\n")) == 4


@pytest.mark.parametrize("stage", ["pretrain", "instruct"])
def test_documents_are_read_in_part_or_drawn_at_random(run, stage):
    whole, source = maker(run, stage=stage, document_dropout=0.0)
    changed = {
        kind: maker(run, stage=stage, document_dropout=0.0, documents=kind)[0]
        for kind in ("text", "image", "random")
    }
    others = 0
    for number in range(12):
        record = source[number]
        prompts_of = {
            kind: made.draw(record, 0, task="retrieval") for kind, made in changed.items()
        }
        full = whole.draw(record, 0, task="retrieval")
        *head, text, image, caption = words(full).split("\n")
        assert words(prompts_of["text"]).split("\n") == [*head, text, caption]
        assert words(prompts_of["image"]).split("\n") == [*head, image, caption]
        np.testing.assert_array_equal(prompts_of["image"].images[0], full.images[0])
        *_, other, image, same = words(prompts_of["random"]).split("\n")
        assert image == "*" and same == caption
        assert other != captions.caption(source.scene(number), "short")
        others += other != text
    assert others > 6


def test_words_of_a_prompt_tell_what_its_images_tell(run):
    made, source = maker(run, invented_names=1.0)
    for index in range(6):
        record, scene = source[index], source.scene(index)
        subject = made.draw(record, 0, task="subject")
        told = [noun for group in scene.groups for noun in (group.shape, group.colour)]
        assert all(word in subject.words for word in told)
        assert not all(word in subject.caption for word in told)
        named = made.draw(record, 0, task="retrieval")
        spoken, real = (set(x.replace(",", "").split()) for x in (named.caption, named.words))
        (name,) = spoken - real
        assert name.removesuffix("s") in invented.NAMES["train"]
        for task in ("caption", "prediction"):
            prompt = made.draw(record, 0, task=task)
            assert prompt.words is None and prompt.caption == record["caption"]
    alone = made.draw({"caption": source[0]["caption"], "index": 0}, 0, task="prediction")
    np.testing.assert_array_equal(alone.images[0], source[0]["video"][0])
    for documents in ("text", "random"):
        unexplained, _ = maker(run, invented_names=1.0, documents=documents)
        assert unexplained.draw(source[0], 0, task="retrieval").words is None


def test_a_random_document_explains_no_name(run):
    others = 0
    fields = {"stage": "pretrain", "invented_names": 1.0, "memory_path": None}
    made, source = maker(run, documents="random", **fields)
    plain, _ = maker(run, **fields)
    for index in range(8):
        text, image, caption = words(made.draw(source[index], 0)).split("\n")
        assert [text, image, caption] == words(plain.draw(source[index], 0)).split("\n")
        pair = [x.draw(source[index], 0).images[0] for x in (made, plain)]
        others += not np.array_equal(*pair)
    assert others > 4
    text_alone, _ = maker(run, documents="text", **fields)
    assert not text_alone.draw(source[0], 0).images


def test_a_request_is_read_as_training_reads_documents(run):
    document = Document("a disc", np.zeros((16, 16, 3), np.uint8))
    read = {}
    for kind in ("retrieved", "random", "text", "image"):
        cfg = dataclasses.replace(run.system, documents=kind)
        part = prompts.read_part(cfg, document)
        read[kind] = part.text, part.image is not None
        assert prompts.read_part(cfg, None) is None
    assert read["retrieved"] == read["random"] == ("a disc", True)
    assert read["text"] == ("a disc", False) and read["image"] == ("", True)
    assert (
        prompts.read_part(
            dataclasses.replace(run.system, documents="image"), Document("a disc", None)
        )
        is None
    )
    with pytest.raises(ValueError, match="documents must be retrieved without documents to change"):
        dataclasses.replace(run.system, documents="text", memory_path=None)


def test_images_are_dropped_with_their_marks(run):
    made, source = maker(run, image_dropout=1.0)
    whole, record = maker(run)[0], source[2]
    for task in ("subject", "prediction"):
        full, alone = (x.draw(record, 1, task=task) for x in (whole, made))
        assert full.images and not alone.images
        assert words(alone) == full.caption and "<img>" not in full.caption
        assert (alone.first_frame is None) == (task == "subject")
    assert made.draw(record, 1, task="retrieval").key() == (
        whole.draw(record, 1, task="retrieval").key()
    )


def test_it_trains_on_all_tasks(run, trained):
    _, result = trained
    for name in ("loss", "loss_subject", "loss_prediction", "loss_retrieval"):
        assert np.isfinite(result.after[name])


@pytest.mark.slow
def test_images_and_documents_change_a_video(pipeline, tmp_path):
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    requests = [
        Request("A <img> moves left", images=(one,)),
        Request("A <img> moves left", images=(two,)),
        Request("a red circle", first_frame=one),
        Request("a red circle", document=Document("a disc", two)),
        Request("a red circle"),
    ]
    with gallery.Gallery(tmp_path / "out") as written:
        gallery.make_videos(pipeline, requests, written, batch_size=5)
    assert len({x.read_bytes() for x in (tmp_path / "out").glob("*.mp4")}) == len(requests)
    shown = {path.name for path in (tmp_path / "out").glob("0*.png")}
    images = {"000-image-1.png", "001-image-1.png"}
    assert shown == images | {"002-first.png", "003-document.png"}
    with pytest.raises(ValueError, match="one of images, first_frame and a retrieved document"):
        pipeline.generate([Request("a <img>", images=(one,), first_frame=two)])
    long = Request("a red circle " * 60, document=Document("a disc " * 9, one))
    assert pipeline.truncated_text(long).count("circle") > 20
    assert not pipeline.truncated_text(requests[0])


@pytest.mark.slow
def test_images_have_a_scale_of_guidance_of_their_own(trained):
    scales = SampleConfig(guidance_scale=4.0, image_guidance_scale=2.0, steps=1)
    opened = open_lib.open_pipeline(trained[0], scales)
    rng = np.random.default_rng(0)
    noisy = lambda x: x + jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype)  # noqa: E731
    two = opened.with_params(jax.tree.map(noisy, opened.params))
    assert two.settings["sampler"]["image_guidance_scale"] == 2.0
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    asked, alone = Request("A <img> moves left", images=(image,)), Request("A moves left")
    encode, system, params = two.encoder.features, two.system, two.params
    rows = [(encode([asked]), jnp.ones(1, bool)), (encode([alone]), None), (encode([asked]), None)]

    @jax.jit
    def explicit(key):
        conditions = [system.condition(params, *row) for row in rows]

        def predict(xt, time, _, aux):
            uncond, text, cond = (system.denoise(params, xt, time, x)[0] for x in conditions)
            return uncond + 4.0 * (text - uncond) + 2.0 * (cond - text), aux

        shape = (1, *system.codec.latent_shape(*two.size))
        return samplers.sample(predict, two.scheduler, shape, key=key)

    expected = two.decode(explicit(request.make_keys([0])))
    np.testing.assert_allclose(two.generate([asked]) / 255, expected, atol=1.01 / 255)
    assert expected.std() > 0.05


def sample(trained, image_folder, out, *args):
    named = [image_folder / word if str(word).endswith(".png") else word for word in args]
    return ["sample", "--checkpoint", trained[0], *named, "--out", out]


def test_a_gallery_shows_what_a_video_was_made_from(trained, memory, image_folder, tmp_path):
    asked = ["--prompt", "a red heart", "--retrieve", memory]
    code, _, err = commands.call(*sample(trained, image_folder, tmp_path / "out", *asked))
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "000.json").read_text())
    assert record["prompt_images"] == ["000-document.png"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<img ") == 1 and record["document"]["text"] in page


@pytest.mark.parametrize(
    "args, message",
    [
        (["--prompt", "a <img> on a <img>", "--image", "cut.png"], "<img> for each image, got 2"),
        (["--prompt", "a cat", "--image", "cut.png"], "<img> for each image, got 0 for 1"),
        (["--prompt", "a <img>", "--image", "broken.png"], "broken.png must be readable"),
        (["--prompt", "a cat", "--first_frame", "none.png"], "none.png"),
    ],
    ids=["fewer", "more", "damaged", "absent"],
)
def test_bad_images_are_one_line(trained, image_folder, tmp_path, args, message):
    error = commands.error_of(*sample(trained, image_folder, tmp_path / "out", *args))
    assert message in error and not (tmp_path / "out").exists()


def test_a_mark_without_an_image_is_refused_before_a_run_is_opened(tmp_path):
    asked = ["--checkpoint", tmp_path / "none", "--prompt", "a <img> moves left"]
    error = commands.error_of("sample", *asked, "--out", tmp_path / "out")
    assert "<img> for each image, got 1 for 0 images" in error and not (tmp_path / "out").exists()


def test_a_prompt_has_one_kind_of_image(tmp_path):
    named = ["--image", "a.png", "--first_frame", "b.png"]
    line = commands.error_of("sample", "--prompt", "a <img>", *named, "--out", tmp_path / "out")
    assert (
        "must have one of images, a first frame and a retrieved document, got --image and" in line
    )
    assert not (tmp_path / "out").exists()


def test_requests_that_cannot_be_served_are_one_line(pipeline, mimir_run, memory, tmp_path):
    with pytest.raises(ValueError, match="<img> for each image, got 1 for 0"):
        pipeline.truncated_text(Request("a <img>"))
    with pytest.raises(ValueError, match="must be a folder with a memory.json, found none"):
        retrieval.retrieve(str(tmp_path), [Request("a cat")], pipeline.system)
    only = tmp_path / "only"
    runs.write_memory(only, range(1))
    asked = Request(json.loads(next(only.glob("shard*/documents.jsonl")).read_text())["text"])
    with pytest.raises(ValueError, match="must hold a document besides the query itself, got 1"):
        retrieval.retrieve(str(only), [asked], pipeline.system)
    found, without = retrieval.retrieve(str(memory), [asked, Request("xyz")], pipeline.system)
    assert found[0].document.image.shape == (16, 16, 3) and without == ["xyz"]
    with pytest.raises(ValueError, match="--retrieve must be left out for mimir, which reads no"):
        retrieval.retrieve(str(memory), [asked], systems.make_system(mimir_run))


def beside(run, frozen):
    """The run with T5's states of captions beside those of prompts."""
    system = dataclasses.replace(
        run.system,
        model=dataclasses.replace(run.system.model, route="beside"),
        text=c.TextConfig(t5_path=str(frozen / "t5"), length=24),
    )
    return dataclasses.replace(run, system=system)


def test_t5_reads_captions_without_images_and_instructions(run, frozen):
    config = beside(run, frozen)
    system = systems.make_system(config)
    assert {"vae", "llava", "t5"} == set(system.frozen)
    encoder = systems.make_encoder(config, system)
    record = encoder.source("train")[0]
    drawn = encoder.encode_features({name: [value] for name, value in record.items()})
    shapes = jax.tree.map(lambda x: x.shape[1:], drawn)
    spec = system.feature_batch_spec(system.buckets[0])
    assert shapes == jax.tree.map(lambda x: x.shape[1:], spec)
    image = np.zeros((32, 32, 3), np.uint8)
    t5 = text.TextEncoder(config.system.text, use_llm=False)
    asked = Request("A <img> moves left", images=(image,))
    words_alone = t5.encode(["A moves left"]).t5
    np.testing.assert_array_equal(encoder.features([asked]).t5, words_alone)
    long = Request("a red circle " * 9, document=Document("a disc", image))
    assert encoder.truncated_text(long) == t5.truncated(long.prompt)["t5"] != ""
    width = dataclasses.replace(config.system.text, t5_path="package:tiny/t5")
    wrong = dataclasses.replace(config, system=dataclasses.replace(config.system, text=width))
    with pytest.raises(ValueError, match="aligner.text_width must be the width 128 of package"):
        systems.make_encoder(wrong, system)
    with pytest.raises(ValueError, match="text.length must equal model.dit.text_length where"):
        dataclasses.replace(config.system, text=c.TextConfig())


def test_widths_are_checked_before_weights_are_read(run, monkeypatch):
    monkeypatch.setattr(weights, "load", lambda *args, **options: pytest.fail("weights are read"))
    aligner = dataclasses.replace(run.system.model.aligner, llm_width=21)
    model = dataclasses.replace(run.system.model, aligner=aligner)
    wrong = dataclasses.replace(run, system=dataclasses.replace(run.system, model=model))
    with pytest.raises(ValueError, match="aligner.llm_width must be the width 20 of .*, got 21"):
        systems.make_encoder(wrong, systems.make_system(wrong))
    part = c.AlignerSystemConfig(
        model=aligner,
        multimodal=run.system.multimodal,
        text=c.TextConfig(t5_path="package:tiny/t5", length=24),
    )
    phase = dataclasses.replace(run, system=part)
    with pytest.raises(ValueError, match="model.llm_width must be the width 20 of .*, got 21"):
        systems.make_encoder(phase, systems.make_system(phase))
    unnamed = dataclasses.replace(run.system, multimodal=c.MultimodalConfig())
    with pytest.raises(ValueError, match="system.multimodal.path must name a folder of llava"):
        systems.make_encoder(dataclasses.replace(run, system=unnamed), systems.make_system(run))


def with_latents(run, count=2):
    """The run with the latents of images in the sequence."""
    return dataclasses.replace(run, system=dataclasses.replace(run.system, reference_latents=count))


@pytest.mark.slow
def test_latents_of_images_stand_before_the_clip(run):
    config = with_latents(run)
    system, plain = systems.make_system(config), systems.make_system(run)
    encoder = systems.make_encoder(config, system)
    bucket = system.buckets[0]
    record = encoder.source("train")[0]
    drawn = encoder.encode_features({name: [value] for name, value in record.items()})
    shapes = lambda tree: jax.tree.map(lambda x: x.shape[1:], tree)  # noqa: E731
    assert shapes(drawn) == shapes(system.feature_batch_spec(bucket))
    first = record["video"][0]
    one, three = Request("A <img>", images=(first,)), Request("<img>" * 3, images=(first,) * 3)
    features = encoder.features([one, three])
    assert features.reference_mask.tolist() == [[True, False], [True, True]]
    expected = encoder.encode_video(first[None, None])[0, 0]
    np.testing.assert_allclose(features.reference_latents[0, 0], expected, atol=1e-5)
    assert (features.reference_latents[0, 1] == 0).all()
    _, height, width, _ = system.codec.latent_shape(1, bucket.height, bucket.width)
    more = 2 * (height // system.backbone.patch) * (width // system.backbone.patch)
    assert system.num_tokens(bucket) == plain.num_tokens(bucket) + more
    params = system.model.init(jax.random.key(0))
    condition = system.condition(params, features, jnp.array([False, True]))
    assert condition.reference_mask.tolist() == [[True, False], [False, False]]
    assert (condition.reference_latents[1] == 0).all()
    with pytest.raises(
        ValueError, match="reference_latents must be 0 with model.dit.temporal_patch"
    ):
        config.system.with_dit(temporal_patch=2)


def with_first_frames(run):
    """The run with a transformer that reads first frames behind the noisy latents."""
    channels = 2 * run.system.vae.latent_channels
    tasks = c.TasksConfig(subject=0.0)
    system = dataclasses.replace(
        run.system.with_dit(in_channels=channels), stage="instruct", tasks=tasks
    )
    return dataclasses.replace(run, system=system)


@pytest.mark.slow
def test_first_frames_follow_the_noisy_latents(run, image_folder, pipeline):
    config = with_first_frames(run)
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    records = [encoder.source("train")[index] for index in range(6)]
    stacked = {name: [record[name] for record in records] for name in records[0]}
    drawn = encoder.encode_features(stacked)
    spec = system.feature_batch_spec(dataclasses.replace(system.buckets[0], batch=6))
    shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree)  # noqa: E731
    assert shapes(drawn) == shapes(spec)
    clips = encoder.encode_video(np.stack([record["video"] for record in records])[:, :1])
    given = drawn.first_frame.any((-4, -3, -2, -1))  # (b, prompts): those of the task
    assert given.any() and not given.all()
    for row, number in zip(*np.nonzero(given), strict=True):
        np.testing.assert_allclose(drawn.first_frame[row, number], clips[row], atol=1e-5)

    frame = records[0]["video"][0]
    asked = [Request("a", first_frame=frame), Request("a", first_frame=frame, negative_prompt="b")]
    features, (null, drop) = encoder.features(asked), encoder.null_features(asked)
    np.testing.assert_allclose(features.first_frame[0], clips[0], atol=1e-5)
    np.testing.assert_array_equal(null.first_frame, features.first_frame)
    without = encoder.features([Request("a")])
    assert not without.first_frame.any()
    alone = encoder.text_features(asked[:1])  # all branches of guidance have the frame
    np.testing.assert_array_equal(alone.first_frame, features.first_frame[:1])
    np.testing.assert_array_equal(alone.states, without.states)
    params = system.model.init(jax.random.key(0))
    dropped = system.condition(params, null, jnp.asarray(drop))
    np.testing.assert_array_equal(dropped.image_latents, features.first_frame)

    # Zeros are no first frame.
    draws = np.random.default_rng(0)  # the last layer begins at zero
    params = jax.tree.map(lambda x: x + 0.1 * draws.normal(size=x.shape).astype("f"), params)
    xt = jnp.ones((2, *system.codec.latent_shape(17, *frame.shape[:2])))
    at = jnp.full(2, 500)
    condition = dataclasses.replace(dropped, image_latents=None)
    without = system.denoise(params, xt, at, condition)[0]
    zeros = dataclasses.replace(dropped, image_latents=jnp.zeros_like(dropped.image_latents))
    np.testing.assert_array_equal(system.denoise(params, xt, at, zeros)[0], without)
    assert np.abs(system.denoise(params, xt, at, dropped)[0] - without).max() > 1e-4
    assert encoder.feature_identity() != pipeline.encoder.feature_identity()
    first = dataclasses.replace(
        config, system=dataclasses.replace(config.system, stage="pretrain", tasks=c.TasksConfig())
    )
    pretraining = systems.make_encoder(first, systems.make_system(first))
    assert not pretraining.encode_features(stacked).first_frame.any()


def test_presets_find_what_the_recipe_makes():
    for config in (presets.tiny_stage1(), presets.tiny_stage2()):
        assert config.system.multimodal.length >= (
            config.system.tasks.max_images * presets.TINY_LLAVA.tokens_per_image + 64
        )
        system = systems.make_system(config)
        assert system.feature_spec(2).states.shape == (2, 224, 160)
    assert presets.TINY_ALIGNER.text_length == config.system.dit.text_length


@pytest.mark.slow
def test_it_resumes_and_reads_stored_states_to_the_bit(run, trained, tmp_path, replace):
    whole = final_params(run, trained[0])
    loop.train(replace(run, steps=2), tmp_path / "parts")
    loop.train(run, tmp_path / "parts")
    stored = tmp_path / "features"
    precompute.write_features(run, stored, dtype="float32", shard_size=5)
    ready = replace(run, data=replace(run.data, features=str(stored)))
    loop.train(ready, tmp_path / "ready")
    for config, folder in ((run, "parts"), (ready, "ready")):
        jax.tree.map(np.testing.assert_array_equal, whole, final_params(config, tmp_path / folder))


@pytest.mark.slow
def test_all_routes_train_and_compile_ahead(run, trained, frozen, tmp_path, replace):
    direct = replace(run.system, model=replace(run.system.model, route="direct"))
    others = {"direct": replace(run, system=direct), "beside": beside(run, frozen)}
    others["direct"] = with_latents(others["direct"])
    for name, config in others.items():
        result = loop.train(replace(config, steps=1), tmp_path / name)
        assert np.isfinite(result.after["loss"])
    for config in (run, *others.values()):
        for program in typing.get_args(Program):
            assert aot.compile_run(config, hardware.find_topology("cpu:8"), program).memory["total"]
    model, params = weights.load(trained[0], kind="vimi")
    assert set(params) == {"aligner", "dit"} and model.config == run.system.model


def test_real_clips_show_their_cutouts(run, tmp_path):
    folder, out = tmp_path / "clips", tmp_path / "cutouts"
    folder.mkdir()
    source = ToyworldSource("train", scenery="single", frames=9)
    for number in range(4):
        video.write_mp4(folder / f"{number}.mp4", source[number]["video"], fps=8.0)
        (folder / f"{number}.txt").write_text("a thing floats in the room")
    shown = [
        {
            "file": f"{number}.mp4", "caption": "a thing floats in the room",
            "things": [{"words": "thing", "kind": "subject", "images": [{"image": "thing.png"}]}],
            "place": {"image": "place.png", "words": "room"},
        }
        for number in range(3)
    ]  # fmt: skip
    out.mkdir()
    (out / "subjects.jsonl").write_text("".join(json.dumps(line) + "\n" for line in shown))
    thing = np.zeros((40, 30, 4), np.uint8)
    thing[8:32, 6:24] = (200, 20, 20, 255)
    Image.fromarray(thing).save(out / "thing.png")
    Image.fromarray(thing[..., :3]).save(out / "place.png")
    data = dataclasses.replace(run.data, source="folder", folder=c.FolderConfig(path=str(folder)))
    system = dataclasses.replace(
        run.system, memory_path=None, subjects_path=str(out), tasks=c.TasksConfig(text_beside=0.0)
    )
    real = dataclasses.replace(run, data=data, system=system)
    made, clips = maker(real, memory_path=None)
    texts = set()
    for number in range(8):
        prompt = made.draw({"index": 0, "caption": "-", "video": None}, number, task="subject")
        text = words(prompt).split("\n")[1]
        texts.add(text)
        assert len(prompt.images) == text.count("*") and "thing" not in text
    assert texts == {"a * floats in the room", "a * floats in the *"}
    record = {"index": clips.files.index("3.mp4"), "caption": "-", "video": clips[0]["video"]}
    assert made.has_task(0, "subject") and made.has_task(record["index"], "retrieval")
    assert not made.has_task(record["index"], "subject")
    without = made.draw(record, 0, task="subject")
    assert words(without).endswith("-") or "-\n*" in words(without)
    assert "<img>" not in words(without)
    made.require_cutouts()
    marked = [line | {"caption": f"{line['caption']} <img>"} for line in shown]
    (out / "subjects.jsonl").write_text("".join(json.dumps(line) + "\n" for line in marked))
    other = maker(real, memory_path=None)[0].draw(record | {"index": 0}, 0, task="subject")
    assert "-" in words(other)
    strange = [line | {"file": f"other/{line['file']}"} for line in shown]
    (out / "subjects.jsonl").write_text("".join(json.dumps(line) + "\n" for line in strange))
    with pytest.raises(InputError, match="got none of 3, such as .*mp4; make them"):
        maker(real, memory_path=None)[0].require_cutouts()
    with pytest.raises(InputError, match="system.subjects_path must name the cut-outs"):
        dataclasses.replace(real, system=dataclasses.replace(system, subjects_path=None))
    unread = dataclasses.replace(system, subjects_path="none", tasks=c.TasksConfig(subject=0.0))
    assert prompts.open_cutouts(unread) is None


def test_clips_in_buckets_show_their_own_cutouts(run, tmp_path):
    folder, out = tmp_path / "clips", tmp_path / "cutouts"
    for path in (folder, out):
        path.mkdir()
    lines = []
    for number in range(5):
        height = 256 if number < 2 else 64  # the first fit no bucket
        video.write_mp4(folder / f"{number}.mp4", np.zeros((9, height, 64, 3), np.uint8), fps=8.0)
        (folder / f"{number}.txt").write_text(f"thing{number} floats")
        image = {"image": f"{number}.png"}
        thing = {"words": f"thing{number}", "kind": "subject", "images": [image]}
        lines.append(
            {"file": f"{number}.mp4", "caption": f"thing{number} floats", "things": [thing]}
        )
        Image.new("RGBA", (9, 9)).save(out / f"{number}.png")
    (out / "subjects.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = dataclasses.replace(
        run.data, source="folder", folder=c.FolderConfig(path=str(folder)),
        buckets=c.BucketsConfig(listed=((9, 64, 64),)),
    )  # fmt: skip
    tasks = c.TasksConfig(prediction=0.0, retrieval=0.0, text_beside=1.0)
    system = dataclasses.replace(
        run.system, memory_path=None, subjects_path=str(out), tasks=tasks, image_dropout=0.0
    )
    source = sources.make_source(data, "train", seed=0)
    made = prompts.PromptMaker(system, source, 0, None)
    for record in (source[number] for number in range(len(source))):
        assert record["caption"].split()[0] in words(made.draw(record, 0))


def test_the_loss_of_a_task_is_of_clips_that_have_it(run, monkeypatch):
    system = systems.make_system(run)
    made = systems.make_encoder(run, system)
    for having in ([0, 1], [1], []):
        monkeypatch.setattr(made, "has_task", lambda record, task, of=having: record["index"] in of)
        loss = encoder.HeldoutTask(run, system, made, "subject")
        assert [record["index"] for record in loss.records()] == having
    assert loss.evaluate({}) == {}


def test_the_loss_of_a_task_takes_each_bucket_alone(run, monkeypatch):
    system = systems.make_system(run)
    made = systems.make_encoder(run, system)
    monkeypatch.setattr(made, "encode_task", lambda part, task: diffusion.Batch(part["video"], 0))
    loss = encoder.HeldoutTask(run, system, made, "subject")
    shapes = [(9, 32, 48), (9, 48, 32), (9, 32, 48)]
    videos = [np.zeros((*shape, 3), np.uint8) for shape in shapes]
    monkeypatch.setattr(loss, "records", lambda: [{"video": video} for video in videos])
    batches = [(name, len(batch.moments)) for name, batch in loss.batches]
    assert batches == [("9x32x48", 2), ("9x48x32", 1)]


def test_stories_are_refused(run):
    world = dataclasses.replace(run.data.toyworld, pages=3)
    with pytest.raises(ValueError, match="data.toyworld.pages must be 1"):
        dataclasses.replace(run, data=dataclasses.replace(run.data, toyworld=world))

# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cut-outs of real clips, on clips of which every pixel is known."""

import dataclasses
import fractions
import json
import sys

import numpy as np
import pytest
from PIL import Image

from mimir_jax.config import bridge
from mimir_jax.data import cutouts as cutouts_lib
from mimir_jax.data.toyworld import renderer, sampling
from mimir_jax.errors import InputError
from mimir_jax.preparation.cutouts import config as config_lib
from mimir_jax.preparation.cutouts import detect, entities, runner, segment
from mimir_jax.sampling import video
from tests import commands
from tests.data import video_files
from tests.evaluation import networks

HIGH, WIDE = 96, 128
KERNEL = np.ones((3, 2), np.float32)


def scenes(count):
    """Scenes with one large object that stays."""
    found, index = [], 0
    while len(found) < count:
        scene = sampling.sample(0, "train", index, "single")
        index += 1
        if scene.num_objects == 1 and scene.timing == "none" and scene.groups[0].size == "large":
            found.append(scene)
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for number, scene in enumerate(scenes(3)):
        frames = renderer.render(scene, 9, HIGH, WIDE)
        video.write_mp4(folder / f"{number}.mp4", frames, fps=8.0)
        group = scene.groups[0]
        caption = f"a {group.colour} {group.shape} floats in the room"
        (folder / f"{number}.txt").write_text(caption)
    video.write_mp4(folder / "3.mp4", frames, fps=8.0)
    (folder / "3.txt").write_text("two dogs run")
    return folder


def cut(clips, out):
    code, printed, error = commands.call("cutouts", clips, out)
    assert code == 0, error
    return printed


@pytest.fixture(scope="module")
def made(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("cutouts") / "out"
    return out, cut(clips, out)


def object_mask(scene):
    empty = dataclasses.replace(scene, groups=(), actions=(), timing="none")
    with_object, without = (renderer.render(x, 1, HIGH, WIDE)[0] for x in (scene, empty))
    change = np.abs(with_object.astype(int) - without).max(axis=-1)
    return change > 90  # its shadow changes less


def test_objects_are_cut_out_and_their_place_is_painted_over(clips, made):
    out, printed = made
    assert "3 things of 3 clips" in printed and "1 clips without: no caption names" in printed
    store = cutouts_lib.CutoutFolder(out)
    assert len(store) == 3 and store.find("3.mp4") is None
    for number, scene in enumerate(scenes(3)):
        found = store.find(f"{number}.mp4")
        group = scene.groups[0]
        assert [thing.words for thing in found.things] == [f"{group.colour} {group.shape}"]
        assert len(found.things[0].images) == 3 and found.place.words == "room"
        truth, image = object_mask(scene), store.read(found.things[0].images[1])
        inside, frame = image[..., 3] > 127, renderer.render(scene, 1, HIGH, WIDE)[0]
        assert 0.9 < inside.sum() / truth.sum() < 2  # shadows are colours of their own
        tint = frame[truth].mean(axis=0)
        like = np.abs(image[inside][:, :3] - tint).max(axis=-1) < 60
        assert like.sum() > 0.8 * truth.sum()
        place = store.read(found.place.images[0])[..., :3].astype(int)
        wall = np.median(frame[~truth], axis=0)
        assert np.abs(place[truth] - wall).mean() < 30 < np.abs(frame[truth] - wall).mean()
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.height > 200


def test_the_same_command_goes_on_and_other_settings_are_refused(clips, made):
    out, _ = made
    before = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    assert "3 things of 3 clips" in cut(clips, out)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    line = commands.error_of("cutouts", clips, out, "--config.side=64")
    assert "must be of the same settings, side" in line
    line = commands.error_of("cutouts", clips, clips / "inside")
    assert "OUT must not be in CLIPS" in line
    line = commands.error_of("cutouts", clips, clips.parent)
    assert "OUT must be new, empty" in line


def test_images_that_were_deleted_are_made_again(clips, made):
    out, _ = made
    image = next((out / "images").glob("*-0-1.png"))
    content = image.read_bytes()
    image.unlink()
    assert "3 things of 3 clips" in cut(clips, out)
    assert image.read_bytes() == content


def test_a_folder_that_a_process_has_only_begun_is_shared(clips, tmp_path):
    for name in ("work/claims", "images"):
        (tmp_path / name).mkdir(parents=True)
    first = runner.Cutouts(clips, tmp_path, config_lib.CutoutsConfig())
    second = runner.Cutouts(clips, tmp_path, config_lib.CutoutsConfig(side=64))
    first.work()
    with pytest.raises(InputError, match="must be of the same settings, side"):
        second.work()


@pytest.mark.parametrize(
    "caption, expected",
    [
        ("A large brown dog is sitting on the beach", "large brown dog/subject, beach/background"),
        ("a boy throws a red ball, and a cat sleeps", "boy/subject, red ball/object, cat/object"),
        ("the dogs run in a park", ""),
        ("Waves", ""),
        ("a glass bowl in front of the window", "glass bowl/subject, window/background"),
    ],
)
def test_noun_phrases_are_found_by_rules(caption, expected):
    config = config_lib.EntitiesConfig()
    found = entities.read(entities.rules(config), config, caption)
    assert ", ".join("/".join(entity) for entity in found) == expected


def test_answers_of_an_llm_are_read_and_checked():
    answer = "subject: a Dog\n- object: red ball.\nbackground: moon\nsubject: dog\nnonsense"
    pairs = entities.parse(answer)
    words, kinds = zip(*pairs, strict=True)
    assert words == ("a Dog", "red ball", "moon", "dog")
    assert kinds == ("subject", "object", "background", "subject")
    config = config_lib.EntitiesConfig(finder="llm")
    found = entities.read(lambda caption: pairs, config, "A dog with a red ball")
    assert [entity.words for entity in found] == ["A dog", "red ball"]
    with pytest.raises(InputError, match="entities.finder=llm must return pairs"):
        entities.read(lambda caption: ["dog"], config, "a dog")
    with pytest.raises(InputError, match="entities.folder must name an LLM"):
        entities.llm(config)


@pytest.mark.parametrize(
    "caption, words, expected",
    [
        ("A catalogue shows a Cat", "cat", "Cat"),
        ("a catalogue", "cat", ""),
        ("\u0130\u0130 a dog", "dog", "dog"),  # its lower case is two characters
        ("\u732b\u304c\u8d70\u308b", "\u732b", "\u732b"),
        ("a red ball", "ball,red ball", "ball"),
        ("a red ball", "red ball,ball", "red ball"),
        ("a red ball", "a red,red ball, ,", "a red"),
        ("a dog and a dog", "dog,dog", "dog"),
    ],
)
def test_words_are_whole_and_apart(caption, words, expected):
    pairs = [(part, "subject") for part in words.split(",")]
    found = entities.read(lambda caption: pairs, config_lib.EntitiesConfig(), caption)
    assert ",".join(entity.words for entity in found) == expected


def test_the_shipped_llm_answers_a_question():
    from mimir_jax.encoders import chat_answers

    reader = chat_answers.ChatAnswers("package:tiny/llm", max_new_tokens=24)
    answer = reader.answer("a large red circle moves left")
    assert answer and answer == reader.answer("a large red circle moves left")


def test_plug_ins_of_a_user_are_checked(clips, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def boxes(config):\n    return lambda frame, words: (1, 2)\n"
        "def masks(config):\n    return lambda frame, box: frame > 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for section, field, name, message in (
        ("detect", "detector", "mine:boxes", "must return left, top, right"),
        ("segment", "segmenter", "mine:masks", "must return booleans of shape"),
        ("entities", "finder", "mine:nothing", "must name a function"),
        ("segment", "segmenter", "other", "must be one of grabcut, onnx, none"),
    ):
        base = config_lib.CutoutsConfig()
        part = dataclasses.replace(getattr(base, section), **{field: name})
        work = runner.Cutouts(
            clips, tmp_path / name.replace(":", "-"), dataclasses.replace(base, **{section: part})
        )
        with pytest.raises(InputError, match=message):
            work.work()
    sys.modules.pop("mine", None)


@pytest.mark.parametrize(
    "times, message", [("0.1,b", "must be numbers with"), ("2", "from 0 to 1")]
)
def test_times_are_numbers(clips, tmp_path, times, message):
    line = commands.error_of("cutouts", clips, tmp_path / "out", f"--config.times={times}")
    assert message in line


def test_smaller_images_keep_what_is_behind():
    image = np.zeros((80, 40, 4), np.uint8)
    image[..., :3] = 10, 200, 30
    image[20:60, 10:30, 3] = 255
    small = runner.shrink(image, 40)
    assert small.shape == (40, 20, 4) and (small[..., :3] == (10, 200, 30)).all()
    assert small[20, 10, 3] == 255 and small[0, 0, 3] == 0
    assert np.array_equal(runner.shrink(image, 80), image)
    assert runner.shrink(image[:1, :, :3], 8).shape == (1, 8, 3)


def test_places_are_painted_at_the_size_of_images(clips, tmp_path, monkeypatch):
    (tmp_path / "painter.py").write_text(
        "def make(config):\n"
        "    def fill(frame, mask):\n"
        "        assert frame.shape == (48, 64, 3) and mask.shape == (48, 64) and mask.any()\n"
        "        return frame\n"
        "    return fill\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = config_lib.CutoutsConfig(
        place=config_lib.PlaceConfig(inpainter="painter:make"), side=64
    )
    work = runner.Cutouts(clips, tmp_path / "out", config)
    work.work()
    assert all("place" in record for record in work.finish()[:3])
    sys.modules.pop("painter", None)


def test_pixels_of_images_are_square(tmp_path):
    (tmp_path / "clips").mkdir()
    frames = list(renderer.render(scenes(1)[0], 9, HIGH, WIDE))
    for name, aspect in (("wide", fractions.Fraction(2)), ("high", fractions.Fraction(1, 2))):
        path = tmp_path / "clips" / f"{name}.mp4"
        video_files.write_video(path, frames, pixel_aspect=aspect)
        path.with_suffix(".txt").write_text("a thing floats in the room")
    work = runner.Cutouts(tmp_path / "clips", tmp_path / "out", config_lib.CutoutsConfig())
    work.work()
    sizes = []
    for record in work.finish():
        with Image.open(work.out / record["place"]["image"]) as image:
            sizes.append(image.size)
    assert sizes == [(WIDE // 2, HIGH), (2 * WIDE, HIGH)]


@pytest.mark.parametrize("changes", [{"side": 32}, {"place": {"dilation": 0.2}}], ids=str)
def test_other_images_have_another_digest(clips, made, tmp_path, changes):
    work = runner.Cutouts(clips, tmp_path, bridge.from_values(config_lib.CutoutsConfig, changes))
    work.work()
    work.finish()
    digest = cutouts_lib.CutoutFolder(made[0]).digest
    assert cutouts_lib.CutoutFolder(tmp_path).digest != digest


@pytest.mark.slow
def test_a_clip_that_takes_too_much_is_named(tmp_path):
    pages = [Image.new("RGB", (6000, 6000), colour) for colour in ("black", "red")]
    (tmp_path / "clips").mkdir()
    pages[0].save(tmp_path / "clips" / "bomb.gif", save_all=True, append_images=pages[1:])
    (tmp_path / "clips" / "bomb.txt").write_text("a cat sits")
    config = config_lib.CutoutsConfig(clip_gigabytes=0.2)
    work = runner.Cutouts(tmp_path / "clips", tmp_path / "out", config)
    work.work()
    (record,) = work.finish()
    assert "cannot be read: needs more than 0.2 GB" in record["reason"]


def test_things_that_share_a_mask_are_one():
    config = config_lib.SegmenterConfig(max_area=1.0, segmenter="none")
    frame = np.zeros((20, 30, 3), np.uint8)
    box = detect.Box(5, 5, 15, 15, 1.0)
    mask = segment.read(segment.whole_box(config), config, frame, box)
    assert mask.sum() == 100
    small = dataclasses.replace(config, min_area=0.5)
    assert segment.read(segment.whole_box(small), small, frame, box) is None


def test_words_give_way_to_images():
    things = [cutouts_lib.Thing("red ball", ("b",)), cutouts_lib.Thing("dog", ("d",))]
    replaced = cutouts_lib.replace_words("a dog has a red ball", things, ["b", "d"], "<img>")
    assert replaced == ("a <img> has a <img>", ["d", "b"])
    part = cutouts_lib.replace_words("dogged by a dog", things[1:], ["d"], "<img>")
    assert part == ("dogged by a <img>", ["d"])
    kept = cutouts_lib.replace_words("a dog", things[1:], ["d"], "<img>", beside=True)
    assert kept == ("a dog <img>", ["d"])


def test_augmented_things_stay_things_on_white():
    image = np.zeros((60, 40, 4), np.uint8)
    image[20:50, 5:35] = (200, 30, 30, 255)
    rng = np.random.default_rng(0)
    made = [cutouts_lib.augment(image, rng, keep_background=0.0) for _ in range(8)]
    for thing in made:
        assert thing.shape[0] == thing.shape[1] and (thing > 250).all(-1).any()
        red = (thing[..., 0] > 150) & (thing[..., 1] < 90)
        assert red.mean() > 0.1
    assert len({thing.tobytes() for thing in made}) == 8
    behind = cutouts_lib.augment(image, np.random.default_rng(0), keep_background=1.0)
    assert (behind.max(axis=-1) < 40).any()
    again = cutouts_lib.augment(image, np.random.default_rng(0), keep_background=1.0)
    assert np.array_equal(behind, again)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"file": "a", "caption": "dog", "things": [{"words": "cat", "images": [{"image": "i"}]}]}',
        '{"file": "a", "caption": "a dog", "things": [{"words": "dog", "images": []}]}',
        '{"file": "a", "caption": "a red dog", "things": [{"words": "dog", "images": [{"image": '
        '"i"}]}], "place": {"words": "red dog", "image": "p"}}',
        '{"file": "a", "caption": "dogs", "things": [{"words": "dog", "images": [{"image":"i"}]}]}',
    ],
)
def test_bad_lists_of_cutouts_are_one_line(tmp_path, line):
    (tmp_path / "subjects.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match="line 1 must hold file, caption and things"):
        cutouts_lib.CutoutFolder(tmp_path)
    (tmp_path / "subjects.jsonl").unlink()
    with pytest.raises(InputError, match="must hold subjects.jsonl"):
        cutouts_lib.CutoutFolder(tmp_path)


def test_records_are_json_that_training_reads(made):
    out, _ = made
    lines = [json.loads(line) for line in (out / "subjects.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert lines[3]["things"] == [] and "reason" in lines[3]


def as_network(monkeypatch, folder, output, labels=None, **changes):
    """Writes a network whose output is `output`, which a stand-in gives."""
    runtime = networks.runtime(KERNEL, (3, 6, 6))
    runtime.InferenceSession.run = lambda self, names, x: [output]
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    fields = dict(layout="bchw", frames=None, resize=[6, 6], values="probabilities")
    networks.write_extractor(folder, KERNEL, (3, 6, 6), **(fields | changes))
    if labels is not None:
        (folder / "labels.txt").write_text("\n".join(labels))
    return str(folder)


@pytest.mark.parametrize("places", ["rows", "columns"])
def test_a_network_of_a_user_finds_boxes(tmp_path, monkeypatch, places):
    boxes = np.array(  # centre, size, scores of cat and dog
        [[3, 3, 2, 4, 0.1, 0.9], [1, 1, 2, 2, 0.8, 0.2], [5, 5, 2, 2, 0.3, 0.4]], np.float32
    )
    output = (boxes if places == "rows" else boxes.T)[None]
    folder = as_network(monkeypatch, tmp_path / "net", output, ["cat", "Dog"], places=places)
    config = config_lib.DetectorConfig(detector="onnx", folder=folder, min_score=0.5)
    find, frame = detect.onnx(config), np.zeros((60, 120, 3), np.uint8)
    assert detect.read(find, config, frame, "a big dog") == pytest.approx((40, 10, 80, 50, 0.9))
    assert detect.read(find, config, frame, "the cat") == pytest.approx((0, 0, 40, 20, 0.8))
    assert detect.read(find, config, frame, "catfish") is None
    (tmp_path / "net" / "labels.txt").write_text("cat")
    with pytest.raises(InputError, match="a score for each of 1 labels, got an output of shape"):
        detect.onnx(config)(frame, "cat")


@pytest.mark.parametrize("values, least", [("probabilities", 0.5), ("logits", 0.0)])
def test_a_network_of_a_user_finds_masks(tmp_path, monkeypatch, values, least):
    output = np.full((1, 1, 6, 6), least - 0.2, np.float32)
    output[..., 3:] = least + 0.2
    folder = as_network(monkeypatch, tmp_path / "net", output, values=values)
    config = config_lib.SegmenterConfig(segmenter="onnx", folder=folder)
    frame = np.zeros((40, 60, 3), np.uint8)
    mask = segment.read(segment.onnx(config), config, frame, detect.Box(10, 10, 50, 30, 1.0))
    assert mask[10:30, 32:50].all() and not mask[:, :28].any() and not mask[:10].any()


def test_networks_of_other_shapes_are_refused(tmp_path, monkeypatch):
    frame, row = np.zeros((60, 120, 3), np.uint8), np.ones((1, 5), np.float32)
    folder = as_network(monkeypatch, tmp_path / "row", row, ["cat"], places="rows")
    find = detect.onnx(config_lib.DetectorConfig(detector="onnx", folder=folder))
    for output in (row, row[:, None, None]):
        monkeypatch.setattr(
            sys.modules["onnxruntime"].InferenceSession, "run", lambda *_, out=output: [out]
        )
        with pytest.raises(InputError, match=r"labels, got an output of shape \("):
            find(frame, "cat")
    cropped = {"resize": [6], "crop": [6, 6]}
    folder = as_network(monkeypatch, tmp_path / "crop", row, ["cat"], places="rows", **cropped)
    with pytest.raises(InputError, match="a resize of two sizes and no crop, got another"):
        detect.onnx(config_lib.DetectorConfig(detector="onnx", folder=folder))
    folder = as_network(monkeypatch, tmp_path / "none", row, [], places="rows")
    with pytest.raises(InputError, match="must name its classes in labels.txt"):
        detect.onnx(config_lib.DetectorConfig(detector="onnx", folder=folder))
    folder = as_network(monkeypatch, tmp_path / "map", row, **cropped)
    with pytest.raises(InputError, match="reads all of a box, got one with crop"):
        segment.onnx(config_lib.SegmenterConfig(segmenter="onnx", folder=folder))

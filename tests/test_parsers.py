# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Properties of our own parsers: what is good comes back, anything else is one `InputError`."""

import csv
import io
import json
import pathlib
import tempfile
import unicodedata

import hypothesis
import pytest
from hypothesis import strategies as st

from mimir_jax import config as c
from mimir_jax import files
from mimir_jax.cli import command
from mimir_jax.config import bridge, registry
from mimir_jax.data.sources import captions
from mimir_jax.encoders import chat, tokenizers
from mimir_jax.errors import InputError
from mimir_jax.parallel import hardware, mesh
from mimir_jax.sampling import prompts
from mimir_jax.sampling.config import SampleConfig

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)
LINE = TEXT.map(lambda x: x.replace("\n", " ").replace("\r", " ").replace("\ufeff", ""))
NAMES = st.text("abé日 -_.", min_size=1, max_size=6).map(lambda x: f"x{x}x.mp4")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(params=[20, pytest.param(600, marks=pytest.mark.slow)], ids=["few", "many"])
def examples(request):
    return request.param


def hold(examples, *strategies, **named):
    """Returns a decorator that tries a function on `examples` draws at once."""

    def run(function):
        quick = hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        quick(hypothesis.given(*strategies, **named)(function))()

    return run


def accept(work):
    """Returns what `work` gives, None where it refuses in one line."""
    try:
        return work()
    except InputError as error:
        assert str(error) and "\n" not in str(error).strip()
        return None


def in_folder(work):
    with tempfile.TemporaryDirectory() as folder:
        return work(pathlib.Path(folder))


def test_clean_texts_stay_as_they_are(examples):
    @hold(examples, st.text(max_size=40))
    def check(text):
        clean = accept(lambda: files.clean_text(text, "text"))
        if clean is None:
            kinds = set(map(unicodedata.category, "".join(text.split())))
            assert kinds <= {"Cf"} or kinds & {"Cc", "Cs"}
        else:
            assert clean == " ".join(clean.split()) and clean
            assert files.clean_text(clean, "text") == clean
            encoded = clean.encode()  # no lone surrogate is left
            assert encoded.decode() == clean


def test_lines_of_a_file_come_back(examples):
    @hold(examples, st.lists(LINE, max_size=5), st.sampled_from(["", "\ufeff"]), st.booleans())
    def check(lines, mark, windows):
        def work(folder):
            path = folder / "p.txt"
            path.write_bytes((mark + ("\r\n" if windows else "\n").join(lines)).encode())
            found = list(files.read_lines(path, "prompt file"))
            expected = [(i, x.strip()) for i, x in enumerate(lines, 1) if x.strip()]
            assert found == expected

        in_folder(work)

    @hold(examples, st.binary(max_size=60), st.sampled_from(["p.txt", "p.jsonl"]))
    def any_bytes(content, name):
        def work(folder):
            (folder / name).write_bytes(content)
            texts = accept(lambda: prompts.read(folder / name))
            assert texts is None or accept(lambda: prompts.check(texts)) != []

        in_folder(work)


def test_prompts_in_json_lines_are_texts_or_refused(examples):
    values = st.dictionaries(st.sampled_from(["prompt", "text"]), JSON, max_size=2) | JSON

    @hold(examples, st.lists(values, min_size=1, max_size=3))
    def check(content):
        def work(folder):
            path = folder / "p.jsonl"
            path.write_text("\n".join(map(json.dumps, content)))
            found = accept(lambda: prompts.read(path))
            good = [x["prompt"] for x in content if isinstance(x, dict) and "prompt" in x]
            if len(good) == len(content) and all(isinstance(x, str) for x in good):
                assert found == good
            else:
                assert found is None

        in_folder(work)


def as_csv(pairs):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerows([("file_name", "text"), *pairs])
    return {"metadata.csv": out.getvalue()}


LAYOUTS = {
    "own": lambda pairs: {
        "captions.jsonl": "\n".join(json.dumps({"file": n, "caption": x}) for n, x in pairs)
    },
    "jsonl": lambda pairs: {
        "metadata.jsonl": "\r\n".join(
            json.dumps({"file_name": f"./{n}", "prompt": [x]}, ensure_ascii=False) for n, x in pairs
        )
    },
    "csv": as_csv,
    "json": lambda pairs: {
        "videos2caption.json": json.dumps([{"path": n, "cap": [x]} for n, x in pairs])
    },
    "json-map": lambda pairs: {"videos2caption.json": json.dumps(dict(pairs))},
    "pair": lambda pairs: {
        "videos.txt": "\ufeff" + "\n".join(f"videos/{n}" for n, _ in pairs),
        "prompts.txt": "\n".join(x for _, x in pairs) + "\n",
    },
    "texts": lambda pairs: {f"{n[:-4]}.txt": x for n, x in pairs},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_captions_of_every_layout_come_back(layout, examples):
    caption = LINE.filter(lambda x: x.strip())
    pairs = st.dictionaries(NAMES, caption, min_size=1, max_size=3)

    @hold(examples // 2, pairs, st.booleans())
    def check(pairs, decomposed):
        def work(folder):
            names = {n: f"videos/{n}" if layout == "pair" else n for n in pairs}
            for file, content in LAYOUTS[layout](list(pairs.items())).items():
                if decomposed:
                    file = unicodedata.normalize("NFD", file)
                (folder / file).write_bytes(content.encode())
            found = accept(lambda: captions.read(folder, list(names.values())))
            clean = {
                names[n]: accept(lambda x=x: files.clean_text(x, "c")) for n, x in pairs.items()
            }
            if None in clean.values():
                assert found is None
            else:
                assert found == {n: (x,) for n, x in clean.items()}

        in_folder(work)


def test_caption_lists_of_any_content_are_read_or_refused(examples):
    lists = [
        "captions.jsonl",
        "conversations.json",
        "metadata.jsonl",
        "metadata.csv",
        "videos2caption.json",
        "videos.txt",
    ]
    content = st.binary(max_size=50) | JSON.map(lambda x: json.dumps(x).encode())

    @hold(examples, st.sampled_from([*lists, "x.txt"]), content)
    def check(name, content):
        def work(folder):
            (folder / name).write_bytes(content)
            (folder / "prompts.txt").write_bytes(b"a\n")
            found = accept(lambda: captions.read(folder, ["x.mp4"]))
            assert found is None or set(found) == {"x.mp4"}

        in_folder(work)


def test_sizes_of_meshes_and_topologies_are_read_or_refused(examples):
    part = st.text("0123456789,=-x:fsdpcutenorav ", max_size=14)
    size = st.dictionaries(st.sampled_from(mesh.AXES), st.integers(1, 99), max_size=4)

    @hold(examples, part | st.text(max_size=8) | st.just("fsdp=" + "9" * 5000))
    def check(text):
        sizes = accept(lambda: mesh.parse_sizes(text))
        assert sizes is None or (len(sizes) == 4 and all(x == -1 or x > 0 for x in sizes))
        accept(lambda: hardware.find_topology(f"cpu:{text}"))
        accept(lambda: hardware.find_topology(text))

    @hold(examples, size)
    def come_back(sizes):
        found = mesh.parse_sizes(",".join(f"{n}={x}" for n, x in sizes.items()))
        assert {n: x for n, x in zip(mesh.AXES, found, strict=True) if n in sizes} == sizes


PROGRAM = command.Program("sample")


def test_flags_of_settings_come_back_or_are_refused(examples):
    number = st.floats(0, 9, allow_nan=False)
    settings_ = st.fixed_dictionaries(
        {},
        optional={
            "sampler": st.sampled_from(["ddim", "dpm", "euler", "heun"]),
            "steps": st.integers(1, 50),
            "guidance_scale": number,
            "eta": st.floats(0, 1),
            "tiled": st.booleans(),
            "answer_seed": st.integers(0, 2**32),
        },
    )

    @hold(examples // 2, settings_, st.booleans())
    def come_back(given, joined):
        words = []
        for name, value in given.items():
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no{name}")
            else:
                words += [f"--{name}={value}"] if joined else [f"--{name}", str(value)]
        parsed = command.parse(PROGRAM, words).flags
        config = SampleConfig(**given)
        assert {n: getattr(config, n) for n in given} == {n: parsed[n].value for n in given}

    names = st.sampled_from(["steps", "sampler", "eta", "tiled", "seed", "frames", "wings", "lora"])

    @hold(examples, names, TEXT)
    def any_value(name, value):
        accept(lambda: command.parse(PROGRAM, [f"--{name}={value}"]))


def places(values, path=()):
    """Yields the path of every value of a nested dict."""
    for name, value in values.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from places(value, (*path, name))


def test_configs_of_runs_come_back_or_are_refused(examples):
    run = bridge.from_config_dict(c.TrainConfig, registry.find_config("mimir:tiny"))
    values = json.loads(bridge.to_json(run))
    assert bridge.from_values(c.TrainConfig, values) == run
    every = list(places(values))

    @hold(examples // 4, st.sampled_from(every), JSON)
    def check(path, value):
        changed = json.loads(json.dumps(values))
        part = changed
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = value
        found = accept(lambda: bridge.from_values(c.TrainConfig, changed))
        if found is not None:
            assert bridge.from_values(c.TrainConfig, json.loads(bridge.to_json(found))) == found


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.load(pathlib.Path(c.__file__).parents[1] / "assets" / "tiny" / "llm")


def test_chat_templates_of_any_text_render_or_are_refused(examples, tokenizer):
    piece = st.sampled_from([
        "{{ messages[0]['content'] }}", "{% for m in messages %}", "{% endfor %}", "{{ m.role }}",
        "{{ raise_exception('no') }}", "{{ 1 / 0 }}", "{{ bos_token }}", "{% if x %}",
        "{% endif %}",
        "{{ messages | tojson }}",
        "{{ ''.__class__ }}", "{{ undefined.thing }}", "{#", "\n", "é",
    ])  # fmt: skip
    own = tokenizer.chat_template

    @hold(examples, st.lists(piece, max_size=5).map("".join), TEXT)
    def check(template, caption):
        tokenizer.chat_template = template
        try:
            found = accept(lambda: chat.render(tokenizer, [{"role": "user", "content": caption}]))
        finally:
            tokenizer.chat_template = own
        assert found is None or isinstance(found, str)

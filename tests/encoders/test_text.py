# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import weights
from mimir_jax.config import TextConfig
from mimir_jax.encoders import chat as chat_lib
from mimir_jax.encoders import text as text_lib
from mimir_jax.encoders import tokenizers
from mimir_jax.parallel import mesh as mesh_lib

CONFIG = TextConfig(
    t5_path="package:tiny/t5", llm_path="package:tiny/llm", length=64, num_answers=3,
    answer_length=24, answer_temperature=2.0, instruction_length=128,
)  # fmt: skip
CAPTION = "two red circles to the left of a blue star"


@pytest.fixture(scope="module")
def encoder():
    return text_lib.TextEncoder(CONFIG, use_llm=True, seed=0)


def test_shapes_and_masks(encoder):
    out = encoder.encode([CAPTION, "a green heart"])
    assert out.t5.shape == (2, 64, 128) and out.t5_mask.shape == (2, 64)
    assert out.llm.shape == (2, 3, 64, 160) and out.llm_mask.shape == (2, 3, 64)
    assert out.instructions.shape == (2, 4, 160)
    assert not out.llm[~out.llm_mask].any()
    assert out.t5[~out.t5_mask].any()  # pads are encoded, as the base attends to them


def test_features_do_not_depend_on_the_batch(encoder):
    alone = text_lib.TextEncoder(CONFIG, use_llm=True, seed=0).encode([CAPTION])
    among = encoder.encode(["a green heart", CAPTION, "a pink ring moves up"])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[1]), alone, among)


@pytest.mark.slow
def test_encoders_split_over_devices_give_the_same_features(encoder):
    mesh = mesh_lib.own_mesh((1, -1, 1, 1))
    split = text_lib.TextEncoder(CONFIG, use_llm=True, seed=0, mesh=mesh)
    for name, network in encoder.networks.items():
        networks = (split.networks[name], network)
        placed, whole = (mesh_lib.device_bytes(network.params) for network in networks)
        assert placed < 0.2 * whole
    want = encoder.encode([CAPTION])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # noqa: E731
    jax.tree.map(close, split.encode([CAPTION]), want)


def test_quantised_encoders_are_near_and_have_an_identity_of_their_own(encoder):
    config = dataclasses.replace(CONFIG, quantize="int8")
    quantised = text_lib.TextEncoder(config, use_llm=False)
    ours, reference = (np.float64(e.encode([CAPTION]).t5) for e in (quantised, encoder))
    assert 0 < np.linalg.norm(ours - reference) < 0.05 * np.linalg.norm(reference)
    own, plain = quantised.identity(), encoder.identity()
    assert own["t5"]["quantize"] == "int8" and own["t5"]["weights"] != plain["t5"]["weights"]
    assert "quantize" not in plain["t5"] and "quantize" not in plain["llm"]  # as stored before


def test_answers_differ_by_seed_while_the_rest_stays(encoder):
    # Invariant 5 of the reference sheet, M-U3 and M-U13.
    first = encoder.encode([CAPTION])
    second = text_lib.TextEncoder(CONFIG, use_llm=True, seed=1).encode([CAPTION])
    query = len(encoder.query_ids(CAPTION))
    np.testing.assert_array_equal(first.llm[:, :, :query], second.llm[:, :, :query])
    assert (first.llm != second.llm).any()
    assert (first.llm[0, 0] != first.llm[0, 1]).any()
    np.testing.assert_array_equal(first.instructions, second.instructions)


@pytest.mark.parametrize("mode", ["query", "answer"])
def test_token_modes_are_parts_of_both(encoder, mode):
    both = encoder.encode([CAPTION])
    config = dataclasses.replace(CONFIG, llm_tokens=mode)
    part = text_lib.TextEncoder(config, use_llm=True, seed=0).encode([CAPTION])
    query = len(encoder.query_ids(CAPTION))
    assert part.llm.shape[1] == (1 if mode == "query" else 3)
    for k in range(part.llm.shape[1]):
        got = part.llm[0, k][part.llm_mask[0, k]]
        whole = both.llm[0, k][both.llm_mask[0, k]]
        expected = whole[:query] if mode == "query" else whole[query:]
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_cache_counts(encoder):
    hits = encoder.cache.hits
    encoder.encode([CAPTION])
    encoder.encode([CAPTION])
    assert encoder.cache.hits >= hits + 1


def test_answers_are_the_text_of_what_was_decoded_once(monkeypatch):
    generate, calls = text_lib.decoding.generate_states, []
    monkeypatch.setattr(
        text_lib.decoding, "generate_states", lambda *a, **k: calls.append(0) or generate(*a, **k)
    )
    encoder = text_lib.TextEncoder(CONFIG, use_llm=True, seed=0)
    answers = encoder.answers(CAPTION)
    assert len(answers) == 3 and all("red circles" in a.lower() for a in answers)
    out = encoder.encode([CAPTION])
    assert len(calls) == 1
    states = encoder.llm_branches(CAPTION)[1][0]  # of the whole answer
    query = len(encoder.query_ids(CAPTION))
    np.testing.assert_array_equal(out.llm[0, 0, query : query + len(states)], states)


@pytest.mark.slow
def test_answers_end_where_their_states_do():
    tight = dataclasses.replace(CONFIG, length=24)
    encoder = text_lib.TextEncoder(tight, use_llm=True, seed=0)
    room = 24 - len(encoder.query_ids(CAPTION))
    for answer in encoder.answers(CAPTION):
        ids = encoder.networks["llm"].tokenizer(answer, add_special_tokens=False)["input_ids"]
        assert 0 < len(ids) <= room
    query = text_lib.TextEncoder(dataclasses.replace(tight, llm_tokens="query"), use_llm=True)
    assert query.answers(CAPTION) == []
    assert text_lib.TextEncoder(tight, use_llm=False).answers(CAPTION) == []


LONG = "a red ball " + "and a blue box " * 60


def test_a_long_caption_is_cut_for_every_reader_and_stops_nothing(encoder):
    out = encoder.encode([LONG])
    rests = encoder.truncated(LONG)
    for name in ("t5", "llm", "instructions"):
        assert rests[name] and LONG.strip().endswith(rests[name])
    kept = LONG.strip().removesuffix(rests["instructions"]).strip()
    assert encoder.truncated(kept)["instructions"] == ""
    # As many tokens as fit, and the instructions whole behind them.
    rows = encoder.instruction_ids(kept)
    assert 120 < max(len(row) for row in rows) <= 128
    alike = encoder.encode([kept]).instructions
    np.testing.assert_array_equal(out.instructions, alike)
    assert (alike != encoder.encode([kept[: len(kept) // 2]]).instructions).any()
    read = (
        encoder.networks["llm"]
        .tokenizer.decode(encoder.query_ids(LONG), skip_special_tokens=True)
        .strip()
    )
    assert read == LONG.strip().removesuffix(rests["llm"]).strip()
    assert len(encoder.query_ids(LONG)) <= CONFIG.length
    begun = encoder.query_ids("")[-1]  # where the assistant begins
    assert encoder.query_ids(LONG)[-1] == encoder.query_ids(CAPTION)[-1] == begun
    assert not any(encoder.truncated(CAPTION).values())


def test_a_length_without_room_for_a_turn_is_refused():
    message = "text.length must be more than the . tokens of the LLM's turn .* got 2; set a larger"
    with pytest.raises(ValueError, match=message):
        text_lib.TextEncoder(dataclasses.replace(CONFIG, length=2), use_llm=True)


@pytest.mark.parametrize("text", ["漢字" * 30, "a café " * 30], ids=["chinese", "accents"])
def test_text_is_cut_between_characters(encoder, text):
    tokenizer = encoder.networks["t5"].tokenizer
    for length in range(20, 27):  # ends inside a character for some of them
        kept, rest = tokenizers.cut(tokenizer, text, length)
        assert kept and rest and text.strip() in (kept + rest, f"{kept} {rest}")
        ids = tokenizer(text, truncation=True, max_length=length)["input_ids"]
        own = tokenizer(kept)["input_ids"]
        assert own[:-1] == ids[: len(own) - 1] and length - len(own) < 4
    assert tokenizers.cut(tokenizer, "漢字", 64) == ("漢字", "")


def test_pick_takes_an_answer_a_row(encoder):
    out = encoder.encode([CAPTION, "a green heart"])
    picked = out.pick(jnp.array([2, 0]))
    np.testing.assert_array_equal(picked.llm[0], out.llm[0, 2])
    np.testing.assert_array_equal(picked.llm_mask[1], out.llm_mask[1, 0])
    np.testing.assert_array_equal(out.pick().llm, out.llm[:, 0])


def test_errors_name_the_field():
    with pytest.raises(ValueError, match="text.t5_path must name a folder .* got None"):
        text_lib.TextEncoder(TextConfig(), use_llm=False)
    config = dataclasses.replace(CONFIG, instruction_length=8)
    message = "instruction 'List every .* must fit text.instruction_length=8 tokens as a chat turn"
    with pytest.raises(ValueError, match=message):
        text_lib.TextEncoder(config, use_llm=True)
    with pytest.raises(ValueError, match="text.llm_path|must hold a llm, got a t5"):
        text_lib.TextEncoder(dataclasses.replace(CONFIG, llm_path="package:tiny/t5"), use_llm=True)


def test_pad_truncates_and_sides():
    ids, mask = tokenizers.pad([[1, 2, 3], [4]], 2, 9)
    assert ids.tolist() == [[1, 2], [4, 9]] and mask.tolist() == [[True, True], [True, False]]
    ids, mask = tokenizers.pad([[4]], 2, 9, side="left")
    assert ids.tolist() == [[9, 4]] and mask.tolist() == [[False, True]]


def test_instruction_turns_with_and_without_the_caption():
    with_caption = chat_lib.instruction_turns("a star", CONFIG)
    assert [turn[0]["content"] for turn in with_caption] == [
        f"a star\n{text}" for text in CONFIG.instructions
    ]
    alone = chat_lib.instruction_turns(
        "a star", dataclasses.replace(CONFIG, instruction_prompt="instruction")
    )
    assert alone[0][0]["content"] == CONFIG.instructions[0]


def test_system_turn_comes_first():
    config = dataclasses.replace(CONFIG, system="Be brief.")
    for chat in (
        chat_lib.caption_turn("a star", config),
        *chat_lib.instruction_turns("a star", config),
    ):
        assert [turn["role"] for turn in chat] == ["system", "user"]
        assert chat[0]["content"] == "Be brief."
    assert chat_lib.caption_turn("a star", CONFIG) == [{"role": "user", "content": "a star"}]


def test_answers_end_with_the_turn_as_well(tmp_path):
    # Phi-3 calls another token its end than the one that closes its turns.
    tokenizer = tokenizers.load(weights.resolve("package:tiny/llm"))
    close, end, other = tokenizer.convert_tokens_to_ids(["<|end|>", "<|endoftext|>", "<|user|>"])
    assert chat_lib.end_ids(tokenizer, tmp_path) == (close,)
    tokenizer.eos_token = "<|endoftext|>"
    assert set(chat_lib.end_ids(tokenizer, tmp_path)) == {close, end}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, other]}))
    assert set(chat_lib.end_ids(tokenizer, tmp_path)) == {close, end, other}
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    assert set(chat_lib.end_ids(tokenizer, tmp_path)) == {end, other}


def test_tokenizer_without_files_is_named(tmp_path):
    with pytest.raises(ValueError, match="must hold a Hugging Face tokenizer"):
        tokenizers.load(tmp_path)


@pytest.fixture
def llm_folder(tmp_path):
    """Returns a function that writes the tokenizer of the shipped LLM with changed settings."""
    shipped = weights.resolve("package:tiny/llm")

    def write(**changes):
        for file in shipped.glob("tokenizer*"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        path = tmp_path / "tokenizer_config.json"
        settings = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
        return tmp_path

    return write


def test_a_text_that_is_too_long_keeps_its_beginning(llm_folder):
    tokenizer = tokenizers.load(llm_folder(truncation_side="left"))
    text = "a cat sits on the mat"
    whole = tokenizer(text)["input_ids"]
    assert tokenizer(text, truncation=True, max_length=4)["input_ids"] == whole[:4]


def test_end_tokens_are_numbers(llm_folder):
    folder = llm_folder()
    tokenizer = tokenizers.load(folder)
    for named in ("5", {"a": 1}, [5, "6"]):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
        with pytest.raises(ValueError, match="must give eos_token_id as a number or a list of"):
            chat_lib.end_ids(tokenizer, folder)


def test_llm_without_a_pad_token_pads_with_its_end(llm_folder):
    tokenizer = tokenizers.load(llm_folder(pad_token=None))
    assert tokenizer.pad_token_id is None
    assert tokenizers.masked_pad_id(tokenizer, 896) == tokenizer.eos_token_id
    assert tokenizers.masked_pad_id(tokenizer, 2) == 0
    with pytest.raises(ValueError, match="must have a pad token, got none"):
        tokenizers.require(tokenizer, "pad", "eos")


def test_t5_reads_pads_so_that_its_end_is_none(tmp_path):
    shipped = weights.resolve("package:tiny/t5")
    for file in shipped.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    tokenizer = tokenizers.load(tmp_path)
    assert tokenizer.pad_token_id is None and tokenizer.eos_token_id == 1
    assert tokenizers.read_pad_id(tokenizer, 896) == 0
    model, params = weights.load(shipped)
    assert text_lib.TextNetwork(model, params, tokenizer, shipped).pad_id == 0


def test_tokens_without_an_embedding_are_named(llm_folder):
    tokenizer = tokenizers.load(llm_folder())
    tokenizer.add_tokens([f"<{i}>" for i in range(30)])
    rows = len(tokenizer)
    tokenizers.check_ids(tokenizer, rows)
    with pytest.raises(ValueError, match="ids below .* '<29>' .30 tokens: .*'<9>' and 20 more"):
        tokenizers.check_ids(tokenizer, rows - 30)
    tokenizer.add_special_tokens({"pad_token": "<pad me>"})
    tokenizers.check_ids(tokenizer, rows)  # masked, so it needs no embedding


@pytest.mark.parametrize(
    "template, message",
    [
        (None, "LLM .* must have a chat template, got none.*system.text.llm_path"),
        ("{{ raise_exception('no system turns') }}", "got TemplateError: no system.*text.system"),
        ("{% for %}", "got TemplateSyntaxError"),
        ("{{ 1 + 'a' }}", "got TypeError"),
    ],
)
def test_chat_template_that_fails_is_one_line(llm_folder, template, message):
    tokenizer = tokenizers.load(llm_folder(chat_template=template))
    chat = chat_lib.caption_turn("a star", dataclasses.replace(CONFIG, system="Be brief."))
    with pytest.raises(ValueError, match=message) as error:
        chat_lib.render(tokenizer, chat)
    assert "\n" not in str(error.value) and tokenizer.name_or_path in str(error.value)


def test_every_day_is_the_same_to_a_chat_template(llm_folder):
    template = "\n Today is {{ strftime_now('%d %b %Y') }}. {{ messages[0]['content'] }}"
    tokenizer = tokenizers.load(llm_folder(chat_template=template))
    text = chat_lib.render(tokenizer, chat_lib.caption_turn("a star", CONFIG))
    assert text == "\n Today is 26 Jul 2024. a star"


def test_an_llm_that_may_think_answers_at_once(llm_folder):
    think = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    tokenizer = tokenizers.load(
        llm_folder(chat_template=f"{{{{ messages[0]['content'] }}}}{think}")
    )
    text = chat_lib.render(tokenizer, chat_lib.caption_turn("a star", CONFIG))
    assert text == "a star<think></think>"


def test_chat_template_that_drops_the_text_is_refused(llm_folder):
    template = "{% for part in messages[0]['content'] %}{{ part['text'] }}{% endfor %}"
    tokenizer = tokenizers.load(llm_folder(chat_template=template))
    with pytest.raises(ValueError, match="must show the text of a turn, got none of it"):
        chat_lib.require_text(tokenizer, CONFIG)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 3}', '{"a": ' * 2000, "\x00"])
def test_damaged_tokenizer_is_one_line(llm_folder, content):
    folder = llm_folder()
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match="must hold a Hugging Face tokenizer") as error:
        tokenizers.load(folder)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("text", ["Zebra ééé 漢字 42%", "  two   spaces"])
def test_shipped_tokenizers_encode_any_text(encoder, text):
    for network in encoder.networks.values():
        tokenizer = network.tokenizer
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids).strip() == text.strip()

# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Forms that checkpoints come in, and values and headers that no checkpoint should have."""

import argparse
import json
import random
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import mimir_jax
from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.errors import InputError, listed, printable
from mimir_jax.models import functional
from mimir_jax.models.mimir import model as mimir_model
from mimir_jax.weights import opening, tensors
from tests.helpers import relative_error
from tests.models import llm_reference
from tests.weights import references, test_sat

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("forms")
    for name in ("llama", "t5-gated", "vae", "5b"):
        references.save(name, root / name)
    return root


@pytest.fixture
def edited(folders, tmp_path):
    """Returns a function that writes a published folder with other tensors and fields."""

    def write(name, edit=lambda state: state, stem="model", **fields):
        (source,) = (folders / name).glob("*.safetensors")
        state = edit(load_file(source))
        save_file(
            {n: np.ascontiguousarray(x) for n, x in state.items()}, tmp_path / f"{stem}.safetensors"
        )
        raw = json.loads((folders / name / "config.json").read_text()) | fields
        (tmp_path / "config.json").write_text(json.dumps(raw))
        return tmp_path

    return write


SCORES = np.zeros((2, 24), np.float32)


def renamed(rename):
    return lambda state: {rename(name): x for name, x in state.items()}


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: name.replace("blocks.0.", "blocks.0._orig_mod.").replace(".0.attn", ".0.attn"),
        lambda name: f"model.{name}",
    ],
    ids=["module", "compiled", "compiled-block", "model"],
)
@pytest.mark.parametrize("name", ["5b", "t5-gated", "llama"])
def test_wrappers_are_not_part_of_a_name(folders, edited, name, rename):
    whole = weights.open_weights(folders / name)
    opened = weights.open_weights(edited(name, renamed(rename)))
    assert opened.config == whole.config
    for path, value in whole.params.items():
        np.testing.assert_array_equal(opened.params[path].read(), value.read())


@pytest.mark.parametrize(
    "name, cls, edit",
    [
        ("llama", "LlamaModel", renamed(lambda n: n.removeprefix("model."))),
        ("llama", "LlamaForSequenceClassification", lambda s: s | {"score.weight": SCORES}),
        ("llama", "TinyLlamaForCausalLM", lambda s: s),
        ("t5-gated", "T5WithLMHeadModel", lambda s: s),
        ("5b", "CogVideoXTransformer3DModelTracking", lambda s: s),
    ],
)  # fmt: skip
def test_siblings_of_a_class_are_known_by_their_tensors(folders, edited, name, cls, edit):
    field = "_class_name" if name == "5b" else "architectures"
    fields = {field: cls if name == "5b" else [cls]}
    opened = weights.open_weights(edited(name, edit, **fields))
    assert opened.params.keys() == weights.open_weights(folders / name).params.keys()


def test_computed_buffers_do_not_matter(folders, edited):
    names = ("self_attn.rotary_emb.inv_freq", "self_attn.rotary_emb.cos_cached", "self_attn.bias",
             "self_attn.masked_bias")  # fmt: skip
    buffers = {f"model.layers.0.{name}": np.zeros(3, np.float32) for name in names}
    buffers |= {
        n: np.zeros(3, np.float32) for n in ("model.rotary_emb.original_inv_freq", "x.freqs_cis")
    }
    opened = weights.open_weights(edited("llama", lambda state: state | buffers))
    assert opened.params.keys() == weights.open_weights(folders / "llama").params.keys()


def test_sizes_that_cannot_be_are_refused(edited):
    for field in ("rms_norm_eps", "layer_norm_epsilon"):
        name = "llama" if "rms" in field else "t5-gated"
        with pytest.raises(InputError, match="must give a positive norm_eps, got -1"):
            weights.open_weights(edited(name, **{field: -1.0}))


def headless(state):
    return {n.removeprefix("model."): x for n, x in state.items() if not n.startswith("lm_head")}


def test_an_llm_without_a_head_gives_states(edited, tmp_path):
    folder = edited("llama", headless, architectures=["LlamaModel"], tie_word_embeddings=False)
    model, params = mimir_jax.load(folder)
    assert "head" not in params and model.config.tie_embeddings is None
    with pytest.raises(InputError, match="must have a head to write"):
        model.logits(params, np.zeros((1, 24), np.float32))
    weights.convert(folder, tmp_path / "native")
    weights.convert(tmp_path / "native", tmp_path / "back", to="transformers")
    first, last = (
        load_file(folder / "model.safetensors"),
        load_file(tmp_path / "back/model.safetensors"),
    )
    assert first.keys() == last.keys()
    assert json.loads((tmp_path / "back/config.json").read_text())["architectures"] == [
        "LlamaModel"
    ]
    with pytest.raises(ValueError, match="1 missing: lm_head.weight"):
        weights.open_weights(
            edited("llama", headless, tie_word_embeddings=False, architectures=["LlamaForCausalLM"])
        )


def test_relatives_that_compute_something_else_are_refused(edited):
    for fields in ({"residual_multiplier": 0.2}, {"layer_types": ["full_attention", "x"]}):
        with pytest.raises(ValueError, match=f"must have (no )?{next(iter(fields))}"):
            weights.open_weights(edited("llama", **fields))
    with pytest.raises(ValueError, match="must name a class among .* got 'GraniteForCausalLM'"):
        weights.open_weights(edited("llama", architectures=["GraniteForCausalLM"]))


ROPE_LENGTH = "original_max_position_embeddings"


@pytest.mark.parametrize("kind", ["Phi3", "Llama", "Mistral"])
@pytest.mark.parametrize("fields", [{}, {ROPE_LENGTH: 6}], ids=["inside", "twice"])
def test_rope_settings_are_those_that_transformers_takes(kind, fields):
    import transformers

    rope = dict(rope_type="longrope", short_factor=[1.0] * 3, long_factor=[2.0] * 3)
    sizes = dict(vocab_size=50, hidden_size=24, num_attention_heads=4, num_hidden_layers=1)
    raw = sizes | fields | dict(intermediate_size=40, rms_norm_eps=1e-5)
    raw |= dict(max_position_embeddings=9000, rope_parameters=rope | {ROPE_LENGTH: 30})
    ours = opening.FAMILIES["llm"].read_config(raw | {"architectures": [f"{kind}ForCausalLM"]}, {})
    theirs = getattr(transformers, f"{kind}Config")(**raw)
    theirs.standardize_rope_params()  # as before the tables are computed
    assert ours.rope.original_max_length == theirs.rope_parameters[ROPE_LENGTH]


def test_a_llama_rotates_whole_heads_as_in_transformers(edited):
    import transformers

    rope = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}
    folder, ids = edited("llama", rope_parameters=rope), np.arange(3, 12)[None]
    theirs = transformers.LlamaForCausalLM.from_pretrained(str(folder)).eval()
    model, params = mimir_jax.load(folder)
    expected = llm_reference.forward(theirs, ids, None)[1]
    assert relative_error(jax.jit(model.apply)(params, ids).logits, expected) < 1e-5
    rope |= {"rope_type": "linear", "factor": 2.0}
    with pytest.raises(InputError, match="no partial_rotary_factor beside rope type linear"):
        weights.open_weights(edited("llama", rope_parameters=rope))


def test_shards_of_a_variant_and_shards_without_an_index(folders, edited, tmp_path):
    folder = edited("llama")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    weights.open_weights(folder)
    (folder / "model.fp16.safetensors").unlink()
    names = list(state)
    for number, part in enumerate((names[:4], names[4:]), 1):
        file = f"model.fp16-{number:05d}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file)
    weights.open_weights(folder)
    (folder / "model.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": {}}))
    weights.open_weights(folder)
    (folder / "model.fp16-00001-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="must hold every shard"):
        weights.open_weights(folder)


@pytest.mark.parametrize("prefix", ["./", "HERE/"])
def test_an_index_may_name_files_beside_it_by_their_paths(folders, edited, tmp_path, prefix):
    folder = edited("llama")
    file = folder / "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(file)
    prefix = prefix.replace("HERE", str(folder))
    where = dict.fromkeys(load_file(file), f"{prefix}{file.name}")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert weights.open_weights(folder).files == (file,)


@pytest.mark.parametrize("kept", ["shared", "encoder.embed_tokens", "decoder.embed_tokens"])
def test_a_shared_table_has_any_of_its_names(folders, edited, kept):
    def rename(state):
        return {f"{kept}.weight" if n == "shared.weight" else n: x for n, x in state.items()}

    want = np.asarray(weights.load(folders / "t5-gated")[1]["embed"]["table"])
    params = weights.load(edited("t5-gated", rename, tie_word_embeddings=False))[1]
    np.testing.assert_array_equal(params["embed"]["table"], want)


def test_a_tied_head_that_is_stored_alone_is_the_table(folders, edited):
    table = load_file(folders / "llama" / "model.safetensors")["model.embed_tokens.weight"]

    def edit(state):
        del state["model.embed_tokens.weight"]
        return state | {"lm_head.weight": table}

    params = weights.load(edited("llama", edit, tie_word_embeddings=True))[1]
    np.testing.assert_array_equal(params["embed"]["table"], table)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pth", ".ckpt", ".pt"])
def test_a_t5_encoder_opens_without_a_config(folders, tmp_path, suffix):
    (source,) = (folders / "t5-gated").glob("*.safetensors")
    state, file = load_file(source), tmp_path / f"t5{suffix}"
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": {n: torch.tensor(x) for n, x in state.items()}}, file)
    want = weights.open_weights(folders / "t5-gated").config
    assert weights.open_weights(file).config == want == weights.open_weights(tmp_path).config


def test_files_of_trainers_beside_the_weights_do_not_matter(tmp_path):
    state = {"a": np.ones(2, np.float32)}
    for name in ("model.safetensors", "consolidated.safetensors"):
        save_file(state, tmp_path / name)
    assert tensors.open_folder(tmp_path)[1] == [tmp_path / "model.safetensors"]
    for name in ("model.safetensors", "consolidated.safetensors"):
        (tmp_path / name).unlink()
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    for name in ("training_args.bin", "optimizer.bin"):
        torch.save({"lr": 1.0}, tmp_path / name)
    assert tensors.open_folder(tmp_path)[1] == [tmp_path / "pytorch_model.bin"]


def with_value(value):
    def edit(state):
        name = next(n for n in state if n.endswith("norm.weight"))
        state[name] = state[name].copy()
        state[name].reshape(-1)[0] = value
        return state

    return edit


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(dtype, value):
    tensor = tensors.of_array(np.array([[1, value], [2, 3]], dtype))
    with pytest.raises(InputError, match="weights here must be finite, 1 of 4 values of x are not"):
        tensors.finite("x", tensor, "here").read()
    fine = tensors.of_array(np.full(3, ml_dtypes.finfo(dtype).max, dtype))
    tensors.finite("x", fine, "here").read()


def test_nan_in_a_published_file_is_named(edited):
    with pytest.raises(ValueError, match="1 of .* values of .*scale are not"):
        mimir_jax.load(edited("llama", with_value(np.nan)))


def test_a_cast_that_overflows_is_refused(edited, tmp_path):
    folder = edited("llama", with_value(1e6))
    with pytest.raises(ValueError, match=r"must fit float16, its largest value is 1e\+06"):
        weights.convert(folder, tmp_path / "half", dtype="float16")
    with pytest.raises(ValueError, match="must fit float16"):
        mimir_jax.load(folder, dtype="float16")
    assert not (tmp_path / "half").exists()


def test_integers_are_no_weights(edited):
    edit = lambda state: {n: x.astype(np.int8) for n, x in state.items()}  # noqa: E731
    with pytest.raises(ValueError, match="quantised, in a way that is not read: .* of int8"):
        weights.open_weights(edited("llama", edit))


@pytest.mark.parametrize(
    "name, fields",
    [
        ("llama", {"num_hidden_layers": 10**9}),
        ("llama", {"vocab_size": 10**30}),
        ("llama", {"num_attention_heads": 0}),
        ("llama", {"num_key_value_heads": "2"}),
        ("llama", {"rms_norm_eps": float("nan")}),
        ("llama", {"rope_parameters": [1]}),
        ("llama", {"head_dim": 1.5}),
        ("llama", {"tie_word_embeddings": "yes"}),
        ("llama", {"architectures": {"a": 1}, "model_type": ["llama"]}),
        ("5b", {"num_layers": "2"}),
        ("5b", {"patch_size": None}),
        ("5b", {"sample_frames": [1]}),
        ("vae", {"layers_per_block": 10**8}),
        ("vae", {"block_out_channels": 7}),
        ("vae", {"norm_num_groups": 0}),
        ("t5-gated", {"num_layers": True}),
        ("t5-gated", {"relative_attention_num_buckets": -1}),
    ],
)
def test_absurd_configs_are_one_line(edited, name, fields):
    with pytest.raises(InputError) as error:
        weights.open_weights(edited(name, **fields))
    assert "\n" not in str(error.value) and len(str(error.value)) < 2000


# Pickles.


def sat_checkpoint(folders):
    """A whole training checkpoint: networks, and the state around them."""
    reference = references.REFERENCES["5b"].build()
    state = test_sat.to_sat(dict(reference.state_dict()))
    for name in ("freqs_sin", "freqs_cos"):
        state[f"{test_sat.PREFIX}mixins.pos_embed.{name}"] = torch.zeros(3, 4)
    state[f"{test_sat.PREFIX}transformer.position_embeddings.weight"] = torch.zeros(3, 4)
    state["first_stage_model.encoder.mid.block_1.conv1.conv.weight"] = torch.zeros(2)
    state["conditioner.embedders.0.transformer.shared.weight"] = torch.zeros(2)
    around = {name: None for name in ("optimizer", "lr_scheduler", "global_steps", "ds_config")}
    around |= {"iteration": 3, "np_rng_state": np.random.RandomState(0).get_state()}
    around |= {"random_rng_state": random.Random(0).getstate(), "skipped_steps": 0}
    return {"module": state, "args": argparse.Namespace(lr=1.0), **around}


def test_a_whole_training_checkpoint_of_sat_opens(folders, tmp_path):
    (tmp_path / "1000").mkdir()
    torch.save(sat_checkpoint(folders), tmp_path / "1000/mp_rank_00_model_states.pt")
    (tmp_path / "config.json").write_text((folders / "5b/config.json").read_text())
    opened = weights.open_weights(tmp_path)
    assert opened.params.keys() == weights.open_weights(folders / "5b").params.keys()


def test_sat_checkpoints_of_several_steps_are_named(tmp_path):
    for step in ("1000", "500"):
        (tmp_path / step).mkdir()
        (tmp_path / step / "mp_rank_00_model_states.pt").touch()
    for config in ({}, {"config.json": '{"_class_name": "CogVideoXTransformer3DModel"}'}):
        for name, text in config.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="must hold one mp_rank.*, found 1000/mp.*, 500/mp"):
            weights.open_weights(tmp_path)


@pytest.mark.parametrize("kind", ["ring", "stride", "compressed", "code", "torn"])
def test_hostile_pickles_are_one_line(folders, tmp_path, kind):
    path = tmp_path / "pytorch_model.bin"
    (tmp_path / "config.json").write_text((folders / "llama/config.json").read_text())
    content = {"a": torch.zeros(2)}
    if kind == "ring":
        content["module"] = content
    if kind == "stride":
        content["a"] = torch.zeros(1).expand(10**9)
    if kind == "code":
        content["a"] = print
    torch.save(content, path)
    if kind == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    if kind == "compressed":
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    with pytest.raises(InputError) as error:
        weights.open_weights(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_pickles_of_old_and_of_parameters_open(tmp_path):
    state = {"a": torch.nn.Parameter(torch.arange(6.0)), "b": torch.ones(4, dtype=torch.bfloat16)}
    torch.save({"model": state}, tmp_path / "x.bin", _use_new_zipfile_serialization=False)
    found = tensors.open_single(tmp_path / "x.bin")[0]
    assert found["a"].read().tolist() == [0, 1, 2, 3, 4, 5] and found["b"].read().shape == (4,)
    for odd in (torch.ones(2, device="meta"), torch.eye(2).to_sparse()):
        torch.save({"a": odd}, tmp_path / "x.bin")
        with pytest.raises(InputError, match="plain tensors"):
            tensors.open_single(tmp_path / "x.bin")


# Messages.


def test_messages_steer_no_terminal_and_list_ten_names():
    assert printable("a\x1b[31m\u202eb\udce9 \u0645\u200c\U0001f600") == (
        "a\\x1b[31m\\u202eb\\udce9 \u0645\u200c\U0001f600"
    )
    assert str(InputError("x\x07\n")) == "x\\x07\\n"
    assert listed([str(i) for i in range(12)]).endswith("8, 9 and 2 more")
    assert listed(["a", "b"]) == "a, b"


def test_extra_tensors_are_counted(edited):
    edit = lambda state: state | {f"x\x1b{i}": np.zeros(1, "f") for i in range(40)}  # noqa: E731
    with pytest.raises(ValueError, match=r"40 extra: x\\x1b0, .* and 30 more;"):
        weights.open_weights(edited("llama", edit))


# What is written is read again, also by its own library.


@pytest.mark.slow
@pytest.mark.parametrize("row", c.ABLATIONS)
def test_an_exported_row_comes_back(tmp_path, row):
    dit = c.DiTConfig(
        num_layers=2, num_heads=3, head_dim=16, in_channels=5, out_channels=5, text_width=24,
        text_length=7, time_width=10, temporal_patch=2, rope_grid="integer", ofs_width=10,
    )  # fmt: skip
    part = dict(t5_width=24, llm_width=20)
    config = c.MimirConfig(
        dit=dit, fuser=c.FuserConfig(**part), stabilizer=c.StabilizerConfig(**part)
    ).with_ablation(row)
    shapes = opening.FAMILIES["mimir"].abstract(config)
    rng = np.random.default_rng(0)
    params = {n: rng.standard_normal(x.shape).astype(np.float32) for n, x in shapes.items()}
    weights.save(tmp_path / "mimir", "mimir", config, weights.unflatten(params))
    weights.convert(tmp_path / "mimir", tmp_path / "out", to="diffusers")
    back = weights.open_weights(tmp_path / "out")
    assert back.config == config and back.params.keys() == params.keys()
    for name, value in params.items():
        np.testing.assert_array_equal(back.params[name].read(), value)


def test_an_exported_mimir_comes_back(tmp_path):
    dit = c.DiTConfig(
        num_layers=1, num_heads=2, head_dim=16, in_channels=4, out_channels=4, text_width=24,
        text_length=8, time_width=8, rope_grid="integer", remat="none",
    )  # fmt: skip
    part = dict(t5_width=24, llm_width=20)
    config = c.MimirConfig(
        dit=dit, fuser=c.FuserConfig(**part), stabilizer=c.StabilizerConfig(**part)
    )
    params = jax.jit(functional.build(mimir_model.Mimir, config).init)(jax.random.key(0))
    weights.save(tmp_path / "mimir", "mimir", config, params)
    weights.convert(tmp_path / "mimir", tmp_path / "out", to="diffusers")
    opened, found = weights.read(tmp_path / "out", dtype="float32")
    assert opened.family.kind == "mimir" and opened.config == config
    jax.tree.map(np.testing.assert_array_equal, found, jax.device_get(params))
    (tmp_path / "out/mimir/model.safetensors").unlink()
    with pytest.raises(ValueError, match="must hold the parameters of their config"):
        weights.open_weights(tmp_path / "out")


def test_an_exported_llm_opens_with_the_ids_of_its_tokenizer(tmp_path):
    from transformers import AutoConfig

    weights.convert("package:tiny/llm", tmp_path / "llm", to="transformers")
    settings = json.loads((tmp_path / "llm/tokenizer_config.json").read_text())
    raw = AutoConfig.from_pretrained(tmp_path / "llm")
    words = json.loads((tmp_path / "llm/tokenizer.json").read_text())["added_tokens"]
    ids = {word["content"]: word["id"] for word in words}
    for name in ("bos", "eos", "pad"):
        assert getattr(raw, f"{name}_token_id") == ids[settings[f"{name}_token"]] < raw.vocab_size

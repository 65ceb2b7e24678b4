# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import io
import json
import os
import pathlib
import subprocess
import sys
import types

import pytest
from absl import flags

from mimir_jax import config as c
from mimir_jax.cli import command, configs, main
from mimir_jax.config import bridge
from mimir_jax.errors import InputError
from tests import commands

ROOT = pathlib.Path(__file__).parents[2]
FILE = str(ROOT / "configs" / "mimir.py")
TRAIN = command.Program("train")


def run_module(monkeypatch, body):
    """Runs a command that does `body`."""
    module = types.SimpleNamespace(
        __doc__="Test.", WORDS="", CONFIG=False, define_flags=lambda values: None, main=body
    )
    monkeypatch.setattr(command, "find_module", lambda verb: module)
    command.run(command.Program("test"), [])


def make_suites(ran):
    """Returns a module with two sub-commands, which append their name and flag to `ran`."""

    def suite(name, flag, words=""):
        return types.SimpleNamespace(
            __doc__=f"Do {name}.",
            WORDS=words,
            CONFIG=False,
            define_flags=lambda values: flags.DEFINE_integer(flag, 1, "A.", flag_values=values),
            main=lambda args: ran.append((name, args.flags[flag].value, *args.words)),
        )

    suites = {"one": suite("one", "a"), "two": suite("two", "b", "FILE ...")}
    return types.SimpleNamespace(__doc__="Test.", SUBCOMMANDS=suites)


def test_the_first_subcommand_is_the_default(monkeypatch, capsys):
    ran, program = [], command.Program("test")
    monkeypatch.setattr(command, "find_module", lambda verb: make_suites(ran))
    for typed in (["--a=2"], ["one", "--a", "3"], ["two", "x", "--b=4"]):
        command.run(program, typed)
    assert ran == [("one", 2), ("one", 3), ("two", 4, "x")]
    command.run(program, ["--help"])
    out = capsys.readouterr().out
    assert "mimir-jax test [one|two] [flags]" in out and "  two  Do two.\n" in out
    command.run(program, ["two", "--help"])
    assert "usage: mimir-jax test two FILE ... [flags]" in capsys.readouterr().out


@pytest.mark.parametrize(
    "typed, message",
    [
        (["three"], "mimir-jax test takes one of one, two, got 'three'"),
        (["two", "--a=2"], "mimir-jax test two has no flag --a; it has --b, --verbosity, --debug"),
        (["one", "x"], "mimir-jax test one takes flags alone, got 'x'"),
    ],
    ids=["subcommand", "flag", "word"],
)
def test_a_subcommand_refuses_what_it_does_not_read(monkeypatch, typed, message):
    monkeypatch.setattr(command, "find_module", lambda verb: make_suites([]))
    with pytest.raises(SystemExit, match=message):
        command.run(command.Program("test"), typed)


@pytest.mark.parametrize("verb", main.VERBS)
def test_help_of_a_verb(verb, capsys):
    main.main([verb, *list(command.subcommands(verb))[:1], "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: mimir-jax {verb}") and "--debug" in out
    assert (ROOT / "launch" / f"{verb}.py").is_file()


def test_help_lists_presets_and_fields_of_the_named_run(capsys):
    main.main(["train", "--config", "vae:full", "--help"])
    out = capsys.readouterr().out
    assert "mimir:tiny" in out and "the defaults of vae:full" in out
    assert "data.frames=17" in out and "int. " in out


@pytest.mark.parametrize("argv", [[], ["--help"]], ids=["bare", "help"])
def test_without_a_verb_all_are_listed(argv, capsys):
    main.main(argv)
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in main.VERBS)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["trian"], "command must be one of train, "),
        (["train", "--stpes=2"], "Unknown command line flag 'stpes'"),
        (["train", "more"], "mimir-jax train takes flags alone, got 'more'; see"),
        (["train", "--config"], "--config must be NAME[:PRESET] or FILE[:PRESET], got none"),
        (["train", "--config=mimri"], "config must name one of cogvideox, "),
        (["train", "--config=mimir:huge"], "preset must be one of tiny, smollm, 2b, 5b"),
        (["train", f"--config={FILE}:huge"], "preset must be one of tiny, smollm, 2b, 5b"),
        (["train", "--config=a/b.py"], "found no file 'a/b.py'"),
        (
            ["train", f"--config={ROOT}/tests/old_run.json"],
            "must name a Python file with get_config(preset), got",
        ),
        (["train", f"--config={__file__}"], "must define get_config(preset), found none"),
        (["train", "--config.wings=2"], "config has no field 'wings'; it has batch_size, "),
        (["train", "--config.data.wings=2"], "config.data has no field 'wings'; it has "),
        (["train", "--config.steps.wings=2"], "config.steps has no fields"),
        (["train", "--config.optimizer.freeze[0]=a"], "config.optimizer has no field 'freeze[0]'"),
        (["train", "--flagfile=nowhere"], "Unable to open flagfile"),
        (["train", "--config.steps=many"], "config.steps=many"),
        (["train", "--config.data.frames=18"], "data.frames must be 8N+1"),
        (["convert", "a"], "convert takes SRC and DST, got 1 arguments"),
        (["tokenizer"], "--out must name a folder to write, got none"),
        (["tokenizer", f"--out={__file__}"], "must not exist"),
        (["study"], "study takes --system NAME=FOLDER ... --out FOLDER, or --tally; see"),
        (["compile", "--program=fly"], "program=fly: value should be one of <train|sample|decode>"),
    ],
)
def test_bad_input_is_one_line(argv, message):
    assert message in commands.error_of(*argv)


def test_only_our_own_error_becomes_one_line(monkeypatch):
    def bug(args):
        raise KeyError("a bug of ours")

    def bad(args):
        raise InputError("steps must be\n at least 1")

    def memory(args):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nMore")

    def interrupt(args):
        raise KeyboardInterrupt

    with pytest.raises(KeyError, match="a bug of ours"):
        run_module(monkeypatch, bug)
    for body, line in (
        (bad, r"error: steps must be\\n at least 1 .--debug shows where."),
        (memory, "error: a device must have memory .* 9 bytes; see docs"),
        (interrupt, "stopped; the same command starts again"),
    ):
        with pytest.raises(SystemExit, match=line):
            run_module(monkeypatch, body)


@pytest.mark.parametrize("platform", ["nonsense", "rocm"])
def test_a_platform_without_a_device_is_one_line(platform):
    program = (
        "from mimir_jax.cli import command\n"
        "with command.one_line():\n"
        "    import jax\n"
        "    jax.devices()\n"
    )
    env = {**os.environ, "JAX_PLATFORMS": platform}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    message = f"error: JAX must have a device of {platform}, got: "
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr


def test_docstrings_are_needed():
    script = [sys.executable, "-OO", str(ROOT / "launch" / "convert.py"), "--help"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 1 and "error: Python must keep docstrings" in done.stderr


def test_a_removed_current_folder_is_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert "the current folder must exist" in commands.error_of("train")


def test_text_is_printed_in_any_locale_and_to_closed_streams(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", None)
    main.open_streams()
    print("caf\u00e9", flush=True)
    print("lost", file=sys.stderr)
    assert out.buffer.getvalue() == b"caf\\xe9\n" and sys.stderr.name == os.devnull
    sys.stderr.close()


def test_debug_shows_the_traceback():
    with pytest.raises(InputError, match="has no field 'wings'"):
        main.main(["train", "--config.wings=2", "--debug"])


def test_print_config_is_the_run(capsys):
    main.main(["train", "--config.steps=7", "--print_config", "--config", "mimir:tiny/zeroconv"])
    run = bridge.from_values(c.TrainConfig, json.loads(capsys.readouterr().out))
    assert run.steps == 7
    config = configs.load("mimir:tiny/zeroconv")
    config.steps = 7
    assert run == bridge.from_config_dict(c.TrainConfig, config)


def test_a_file_and_its_preset_name_the_same_run():
    assert configs.load(FILE) == configs.load("mimir")
    assert configs.load(f"{FILE}:5b") == configs.load("mimir:5b")


def test_commands_are_printed_as_a_shell_reads_them():
    typed = ["--config", "mimir:tiny", "--config.steps=5", "--config.init_from", "my base",
             "--workdir", "runs/a", "--config.mesh.shard_frozen"]  # fmt: skip
    args = command.parse(TRAIN, typed)
    assert args.config.steps == 5 and args.config.init_from == "my base"
    assert args.config.mesh.shard_frozen
    assert args.command("--workdir", "a b", without="steps") == (
        "mimir-jax train --config mimir:tiny --workdir 'a b' "
        "--config.init_from 'my base' --config.mesh.shard_frozen"
    )
    script = command.Program("precompute", pathlib.Path("launch/precompute.py"))
    args = command.parse(script, ["--config.steps=5"], config=FILE)
    assert args.command(verb="train").startswith("python launch/train.py --config ")


def test_processes_share_what_changes_a_run():
    args = command.parse(TRAIN, ["--workdir=a", "--num_processes=2", "--process_id=1"])
    shared = args.shared()
    assert shared["--workdir"] == "a" and shared["config"]["steps"] == args.config.steps
    assert not {"--process_id", "--num_processes", "--debug"} & shared.keys()
    assert json.loads(json.dumps(shared))


def test_default_workdir_is_named_after_the_run():
    assert configs.default_workdir("configs/mimir.py") == "runs/mimir"
    assert configs.default_workdir("mimir:tiny/zeroconv") == "runs/mimir-tiny-zeroconv"


def test_commands_leave_the_flags_of_libraries_alone():
    before = len(flags.FLAGS)
    command.parse(TRAIN, [])
    assert len(flags.FLAGS) == before


def test_tokenizer_trains(tmp_path, capsys):
    main.main(["tokenizer", "--kind=llm", f"--out={tmp_path / 't'}", "--scenes=50"])
    assert "texts -> " in capsys.readouterr().out
    assert (tmp_path / "t" / "tokenizer.json").is_file()

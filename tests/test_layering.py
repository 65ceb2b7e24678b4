# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Imports point one way, as docs/architecture.md draws it; imports inside functions count."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
LEAVES = {
    "errors",
    "files",
    "checksums",
    "hashing",
    "image_files",
    "libraries",
    "lock",
    "noise",
    "remote",
    "tables",
    "threads",
}
# A package imports what stands on lines above its own. Leaves and users of training (the line of
# `evaluation`) may also import their neighbours, as long as no ring closes.
LAYERS = (
    LEAVES,
    {"config"},  # with every room's config.py, whichever package it configures
    {"parallel"},
    {"models", "data", "diffusion"},
    {"weights", "retrieval"},
    {"encoders"},
    {"systems"},
    {"sampling"},
    {"training"},
    {"evaluation", "planning", "preparation", "study"},
    {"cli"},
    {"launch"},
)
RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}
NEIGHBOURS = LEAVES | LAYERS[-3]


def package_of(module):
    """Returns the package of a module of ours by its dotted name below `mimir_jax`."""
    first, _, rest = module.partition(".")
    is_config = rest in ("diffusion_config", "bucket_config")
    is_config = is_config or rest.rpartition(".")[2] in ("config", "presets")
    return "config" if is_config else first


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported(tree):
    """Yields the dotted names that a module imports from `mimir_jax`, names and parents both."""
    queue = list(ast.iter_child_nodes(tree))
    while queue:
        node = queue.pop()
        if is_type_checking(node):
            queue += node.orelse
            continue
        queue += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            if node.module == "mimir_jax" or (node.module or "").startswith("mimir_jax."):
                base = node.module.removeprefix("mimir_jax").removeprefix(".")
                for alias in node.names:
                    yield f"{base}.{alias.name}".removeprefix(".")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("mimir_jax."):
                    yield alias.name.removeprefix("mimir_jax.")


def is_module(name):
    path = ROOT / "mimir_jax" / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def edges():
    """Yields (importing module, imported module) of the whole package and its scripts."""
    package = ROOT / "mimir_jax"
    files = [*package.rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    for file in files:
        base = package if file.is_relative_to(package) else ROOT
        source = ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
        if source == "__init__":  # the facade of the package
            continue
        for name in imported(ast.parse(file.read_text())):
            target = name if is_module(name) else name.rpartition(".")[0]
            if target:
                yield source, target


EDGES = sorted(set(edges()))


def test_every_package_has_a_layer():
    package = ROOT / "mimir_jax"
    files = [file.relative_to(package) for file in package.rglob("*.py")]
    assert {pathlib.Path(file.parts[0]).stem for file in files} - {"__init__"} <= set(RANK)


def test_imports_point_one_way():
    wrong = []
    for source, target in EDGES:
        here, there = package_of(source), package_of(target)
        beside = RANK[here] == RANK[there] and here in NEIGHBOURS
        if here != there and RANK[there] >= RANK[here] and not beside:
            wrong.append((source, target))
    assert wrong == []


def test_packages_form_no_ring():
    graph = {package: set() for package in RANK}
    for source, target in EDGES:
        here, there = package_of(source), package_of(target)
        if here != there:
            graph[here].add(there)
    while free := [package for package, needs in graph.items() if not needs & graph.keys()]:
        for package in free:
            del graph[package]
    assert not graph


def test_imports_are_found_in_functions_but_not_for_type_checking():
    text = (
        "import mimir_jax.a\n"
        "def f():\n    from mimir_jax import b\n    from mimir_jax.c import d\n"
        "if TYPE_CHECKING:\n    from mimir_jax import e\nelse:\n    from mimir_jax import g\n"
        "import jax\n"
    )
    assert sorted(imported(ast.parse(text))) == ["a", "b", "c.d", "g"]


def test_files_of_tests_have_names_of_their_own():
    names = [path.name for path in ROOT.glob("tests/**/test_*.py")]
    assert sorted(names) == sorted(set(names))  # pytest imports them by these

# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The fast tokenizer that a GGUF file describes: byte-level BPE, SentencePiece's BPE, Unigram.

Every type of token is kept: control and unknown tokens are special, user-defined ones are whole
tokens too, bytes and unused ones are in the vocabulary.
"""

import pathlib
from typing import TYPE_CHECKING, Any

from mimir_jax import libraries
from mimir_jax.errors import InputError, printable
from mimir_jax.weights import gguf_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# How byte-level BPE cuts text beforehand, by the names of llama.cpp: as GPT-2 does, with every
# digit apart, as Llama 3 does, which takes a word that is a token whole, or as Qwen does, which
# composes characters first.
_PLAIN_SPLITS = ("gpt-2", "mpt", "olmo", "jais")
_DIGIT_SPLITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")
_LLAMA3_SPLITS = ("llama-bpe", "llama3", "llama-v3")
_QWEN_SPLITS = ("qwen2", "deepseek-r1-qwen")
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = dict.fromkeys(_LLAMA3_SPLITS, _PATTERN % "{1,3}")
_PATTERNS |= dict.fromkeys(_QWEN_SPLITS, _PATTERN % "")
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = range(1, 7)
_LONGEST = 256  # characters of a mergeable piece; published vocabularies stay below 100
_STARTS = ("llama", *_LLAMA3_SPLITS)  # they begin a text with a token where the file is silent
_KEEP_SPACE = ("<unk>", "<s>", "<|endoftext|>")  # special tokens of Phi-3 that eat none


def read_tokenizer(path: pathlib.Path):
    """Builds the fast tokenizer that the file describes.

    Returns:
        A `PreTrainedTokenizerFast`.

    Raises:
        InputError: if it is of another kind, or damaged.
    """
    file = gguf_file.read(path)
    try:
        return _build(file)
    except InputError:
        raise
    except BaseException as error:  # the library panics outside `Exception`
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = printable(" ".join(str(error).split())[:160])
        raise InputError(f"file {path} must hold a whole tokenizer: {reason}") from None


def _build(file: gguf_file.File):
    from tokenizers import AddedToken

    tokens = file.texts("tokenizer.ggml.tokens")
    if len(set(tokens)) != len(tokens):
        twice = next(t for t in tokens if tokens.count(t) > 1)
        raise InputError(f"file {file.path} must have different tokens, got {twice!r:.60} twice")
    kinds = _kinds(file, len(tokens))
    model = file.value("tokenizer.ggml.model", str)
    makers = {"gpt2": _byte_level, "llama": _sentencepiece, "t5": _unigram}
    if model not in makers:
        known = ", ".join(makers)
        raise InputError(f"file {file.path} must have a tokenizer among {known}, got {model!r}")
    tokenizer = makers[model](file, tokens, kinds)
    eats = file.value("general.architecture", str) == "phi3"  # white space behind, as there
    for token, kind in zip(tokens, kinds, strict=True):
        if kind in (_UNKNOWN, _CONTROL):
            strip = eats and token not in _KEEP_SPACE
            added = AddedToken(token, special=True, normalized=False, rstrip=strip)
            tokenizer.add_special_tokens([added])
        elif kind == _USER:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    special = _special(file, tokens)
    _add_ends(file, tokenizer, special, model)
    wrapped = libraries.transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, name_or_path=str(file.path), **special
    )
    wrapped.chat_template = file.value("tokenizer.chat_template", str)
    return wrapped


def _kinds(file: gguf_file.File, count: int) -> list[int]:
    kinds = file.value("tokenizer.ggml.token_type", list, [_NORMAL] * count)
    if len(kinds) != count or not all(kind in range(_NORMAL, _BYTE + 1) for kind in kinds):
        raise InputError(
            f"file {file.path} must give each of {count} tokens a type from {_NORMAL} to {_BYTE}, "
            f"got {len(kinds)} types {sorted(set(kinds))[:8]}"
        )
    return kinds


def _special(file: gguf_file.File, tokens: list[str]) -> dict[str, str]:
    special = {}
    for theirs, ours in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        index = file.value(f"tokenizer.ggml.{theirs}_token_id", int)
        if index is not None:
            if not 0 <= index < len(tokens):
                raise InputError(
                    f"file {file.path} must have a {theirs} token below {len(tokens)}, got {index}"
                )
            special[f"{ours}_token"] = tokens[index]
    return special


def _byte_level(file: gguf_file.File, tokens: list[str], kinds: list[int]) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    del kinds
    pre = file.value("tokenizer.ggml.pre", str)
    known = (*_PLAIN_SPLITS, *_DIGIT_SPLITS, *_PATTERNS)
    if pre not in known:
        names = ", ".join(known)
        raise InputError(f"file {file.path} must split words as one of {names}, got {pre!r}")
    merges = [tuple(pair.split(" ")) for pair in file.texts("tokenizer.ggml.merges")]
    if bad := next((pair for pair in merges if len(pair) != 2), None):
        raise InputError(f"file {file.path} must merge pairs of tokens, got {bad!r:.80}")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    whole = pre in _LLAMA3_SPLITS
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole))
    pattern = _PATTERNS.get(pre)
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)]
    if pre in _DIGIT_SPLITS:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    if pattern is not None:
        steps.insert(0, pre_tokenizers.Split(Regex(pattern), behavior="isolated"))
    if pre in _QWEN_SPLITS:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(file: gguf_file.File, tokens: list[str], kinds: list[int]) -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores = _scores(file, len(tokens))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    unknown = next((t for t, kind in zip(tokens, kinds, strict=True) if kind == _UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=_merges(file, tokens, kinds, scores, vocabulary),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = file.value("tokenizer.ggml.add_space_prefix", bool, True)
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tail = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail]
    )
    return tokenizer


def _merges(
    file: gguf_file.File,
    tokens: list[str],
    kinds: list[int],
    scores: list[float],
    vocabulary: dict[str, int],
) -> list[tuple[str, str]]:
    """Returns the merges of a BPE whose pieces have scores, the best first."""
    ranked = []
    for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind != _NORMAL:
            continue
        if len(token) > _LONGEST:
            raise InputError(
                f"file {file.path} must have pieces of up to {_LONGEST} characters, got one of "
                f"{len(token)}"
            )
        for cut in range(1, len(token)):
            left, right = vocabulary.get(token[:cut]), vocabulary.get(token[cut:])
            if left is not None and right is not None:
                ranked.append((-scores[index], index, left, right))
    return [(tokens[left], tokens[right]) for *_, left, right in sorted(ranked)]


def _unigram(file: gguf_file.File, tokens: list[str], kinds: list[int]) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    scores = _scores(file, len(tokens))
    unknown = file.value("tokenizer.ggml.unknown_token_id", int)
    if unknown is None:
        unknown = kinds.index(_UNKNOWN) if _UNKNOWN in kinds else None
    pieces = list(zip(tokens, scores, strict=True))
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=False))
    steps: list[Any] = []
    if table := file.value("tokenizer.ggml.precompiled_charsmap", list):
        steps.append(normalizers.Precompiled(bytes(x & 0xFF for x in table)))
    steps += [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    prefix = file.value("tokenizer.ggml.add_space_prefix", bool, True)
    space = dict(replacement="▁", prepend_scheme="always" if prefix else "never")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(**space)
    tokenizer.decoder = decoders.Metaspace(**space)
    return tokenizer


def _scores(file: gguf_file.File, count: int) -> list[float]:
    scores = file.value("tokenizer.ggml.scores", list, [])
    if len(scores) != count or not all(isinstance(x, float) and x == x for x in scores):
        raise InputError(f"file {file.path} must give each of {count} tokens a score")
    return scores


def _add_ends(
    file: gguf_file.File, tokenizer: "Tokenizer", special: dict[str, str], model: str
) -> None:
    """Puts the first and the last token of a text around it, as the file says."""
    from tokenizers import processors

    starts = model in _STARTS or file.value("tokenizer.ggml.pre", str) in _STARTS
    ends = {"bos": starts, "eos": model == "t5"}
    put = [
        name
        for name, default in ends.items()
        if file.value(f"tokenizer.ggml.add_{name}_token", bool, default)
        and f"{name}_token" in special
    ]
    if not put:
        return
    words = {name: special[f"{name}_token"] for name in put}
    pattern = [words["bos"]] if "bos" in words else []
    pattern += ["$A", words["eos"]] if "eos" in words else ["$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=pattern,
        special_tokens=[(word, tokenizer.token_to_id(word)) for word in words.values()],
    )

"""The trained tokenizer: any text has ids, the end token is last and single, and everything survives saving."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer, CLIPTokenizer

from codebind_hf.training.tokenization import build_tokenizer


TEXTS = [f"a {adjective} {noun}" for adjective in ("red", "large", "striped") for noun in ("ball", "bell", "cone")] * 3
STRANGE = [
    "",
    " ",
    "\n\t",
    "\x00\x7f",
    "naïve café",
    "日本語",
    "😀👍🏽",
    "ÀÉ",
    "don't",
    "12345",
    "a" * 500,
    "<|endoftext|>",
    "</w>",
]


def test_special_ids_are_first_and_the_vocabulary_is_bounded() -> None:
    for vocab_size in (515, 530, 1024):
        tokenizer = build_tokenizer(TEXTS, vocab_size=vocab_size)
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)
        assert 515 <= len(tokenizer) <= vocab_size
        assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_frequent_words_are_one_token() -> None:
    tokenizer = build_tokenizer(TEXTS)
    assert tokenizer.tokenize("A Red BALL") == ["a</w>", "red</w>", "ball</w>"]


@pytest.mark.parametrize("text", STRANGE)
def test_any_text_has_ids_with_one_end_token_at_the_end(text: str) -> None:
    tokenizer = build_tokenizer(TEXTS)
    for length in (3, 16, 64):
        encoded = tokenizer(text, padding="max_length", truncation=True, max_length=length)
        ids = [index for index, real in zip(encoded["input_ids"], encoded["attention_mask"], strict=True) if real]
        assert ids[0] == 0
        assert ids[-1] == 1
        assert ids.count(1) == 1
        assert set(encoded["input_ids"][len(ids) :]) <= {2}
        assert len(encoded["input_ids"]) == length


@pytest.mark.parametrize("text", ["a red ball", "naïve café", "日本語", "😀👍"])
def test_decoding_gives_the_words_back(text: str) -> None:
    tokenizer = build_tokenizer(TEXTS)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_saved_tokenizers_give_the_same_ids(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(TEXTS, max_length=32)
    tokenizer.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)):
        assert isinstance(loaded, CLIPTokenizer)
        assert loaded.model_max_length == 32
        assert loaded(STRANGE + TEXTS)["input_ids"] == tokenizer(STRANGE + TEXTS)["input_ids"]


def test_training_gives_the_same_vocabulary_in_every_process() -> None:
    texts = [f"{left}{right} {right}{left}" for left in "abcdefgh" for right in "stuvwxyz"]
    code = (
        "import json, sys; from codebind_hf.training.tokenization import build_tokenizer; "
        "print(json.dumps(build_tokenizer(json.loads(sys.argv[1]), vocab_size=560).get_vocab(), sort_keys=True))"
    )
    here = build_tokenizer(texts, vocab_size=560).get_vocab()
    there = subprocess.run([sys.executable, "-c", code, json.dumps(texts)], capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == here
    assert build_tokenizer(texts[::-1], vocab_size=560).get_vocab() == here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "a red ball"}, r"texts.*list of strings.*\[text\]"),
        ({"texts": []}, "texts.*at least one text"),
        ({"texts": ["a", 3]}, r"texts\[1\].*int"),
        ({"texts": TEXTS, "vocab_size": 100}, "vocab_size.*100.*515"),
        ({"texts": TEXTS, "max_length": 2}, "max_length.*2.*3 or more"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_tokenizer(**arguments)

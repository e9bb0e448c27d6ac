"""CLIP's tokenizer from its merges file: ids, special tokens, saving, and files that are not it."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer, CLIPTokenizer

from codebind_hf.conversion.clip_vocabulary import clip_tokenizer


NUM_MERGES = 48894
GOLDENS = Path(__file__).parents[3] / "shared" / "goldens" / "preprocessing" / "tokenizer"
needs_goldens = pytest.mark.skipif(not GOLDENS.exists(), reason="reference values in ../shared are absent")


def write(file: Path, lines: list[str]) -> Path:
    file.write_bytes(gzip.compress("\n".join(["#version", *lines]).encode()))
    return file


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """As many merges as CLIP has: `a</w>` grows by one letter after another, in all ways."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["a</w>"]
    merges = []
    for word in words:
        for letter in letters:
            merges.append(f"{letter} {word}")
            words.append(letter + word)
            if len(merges) == NUM_MERGES + 5:
                return merges
    raise AssertionError("unreachable")


@pytest.fixture(scope="module")
def bpe_file(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bpe") / "merges.txt.gz", lines)


@pytest.fixture(scope="module")
def tokenizer(bpe_file: Path) -> CLIPTokenizer:
    return clip_tokenizer(bpe_file)


def test_ids_are_bytes_then_merges_then_begin_and_end(tokenizer: CLIPTokenizer, lines: list[str]) -> None:
    assert len(tokenizer) == 49408
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.model_max_length)
    assert special == (49406, 49407, 0, 77)
    # Printable bytes come first, from "!"; a word's last letter is 256 above. `b` is byte 98, so 65 after "!".
    assert tokenizer("b!")["input_ids"] == [49406, 65 + 256, 256, 49407]
    assert tokenizer("bb")["input_ids"] == [49406, 65, 65 + 256, 49407]
    # The second merge is `b a</w>`; merges beyond the last that fits are left out.
    assert tokenizer("ba")["input_ids"] == [49406, 512 + 1, 49407]
    last = lines[NUM_MERGES - 1].replace(" ", "").removesuffix("</w>")
    assert tokenizer(last)["input_ids"] == [49406, 49405, 49407]
    unused = lines[NUM_MERGES].replace(" ", "")
    assert tokenizer.convert_tokens_to_ids(unused) == tokenizer.unk_token_id == 49407


def test_padding_is_spelled_as_a_sign_and_yet_text_keeps_that_sign(tokenizer: CLIPTokenizer) -> None:
    batch = tokenizer(["b! !", "b"], padding=True)
    assert batch["input_ids"] == [[49406, 321, 256, 256, 49407], [49406, 321, 49407, 0, 0]]
    assert batch["attention_mask"] == [[1] * 5, [1, 1, 1, 0, 0]]


def test_long_texts_keep_their_end_token(tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer("b " * 100, truncation=True)["input_ids"]
    assert ids == [49406, *[321] * 75, 49407]


def test_special_tokens_spelled_in_a_text_are_text(tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer("<|endoftext|>")["input_ids"]
    assert ids.count(49407) == 1
    assert ids[-1] == 49407


def test_saved_tokenizers_give_the_same_ids(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    texts = ["b! a ba 日本語", "<|endoftext|> 42's", ""]
    tokenizer.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)):
        assert isinstance(loaded, CLIPTokenizer)
        assert (loaded.pad_token_id, loaded.model_max_length) == (0, 77)
        options = {"padding": "max_length", "truncation": True}
        assert loaded(texts, **options)["input_ids"] == tokenizer(texts, **options)["input_ids"]


def test_unreadable_files_are_os_errors(tmp_path: Path, bpe_file: Path) -> None:
    damaged = {
        "text.gz": b"#version\na b\n",
        "cut.gz": bpe_file.read_bytes()[:5000],
        "latin.gz": gzip.compress(b"\xff"),
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
    for name in ("missing.gz", ".", *damaged):
        with pytest.raises(OSError, match="bpe_file: cannot read .*bpe_simple_vocab_16e6.txt.gz"):
            clip_tokenizer(tmp_path / name)


def test_files_with_other_merges_are_value_errors(tmp_path: Path, lines: list[str]) -> None:
    file = tmp_path / "merges.txt.gz"
    with pytest.raises(ValueError, match="has 48893 merges; expected at least 48894"):
        clip_tokenizer(write(file, lines[: NUM_MERGES - 1]))
    with pytest.raises(ValueError, match="has 48893 merges"):
        clip_tokenizer(write(file, [lines[0] + " x", *lines[1:NUM_MERGES]]))
    with pytest.raises(ValueError, match="1 repeated tokens; expected the merges of CLIP's 49408 tokens"):
        clip_tokenizer(write(file, [*lines[: NUM_MERGES - 1], lines[0]]))
    with pytest.raises(ValueError, match="a merge of the unknown token 'zzzz'"):
        clip_tokenizer(write(file, ["zzzz a", *lines[: NUM_MERGES - 1]]))


@pytest.mark.parity
@needs_goldens
def test_clean_ascii_texts_have_clips_ids() -> None:
    """Without the processor's cleaning; with it, the parity tests of preprocessing compare all texts."""
    tokenizer = clip_tokenizer(GOLDENS / "bpe_simple_vocab_16e6.txt.gz")
    strings = json.loads((GOLDENS / "strings.json").read_text())["strings"]
    expected = load_file(GOLDENS / "token_ids.safetensors")["imagebind"]
    plain = [index for index, text in enumerate(strings) if text.isascii() and "&" not in text and "<|" not in text]
    assert len(plain) > 30
    ids = tokenizer([strings[index] for index in plain], padding="max_length", truncation=True)["input_ids"]
    np.testing.assert_array_equal(ids, expected[plain])

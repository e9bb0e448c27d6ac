"""Which words a tokenizer knows: of ours, of a byte-level one without an unknown token, of words, and of bytes."""

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.trainers import BpeTrainer
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from codebind_hf.monitoring.known_words import known_words
from codebind_hf.training.tokenization import build_tokenizer


TEXTS = ["a photo of a wooden ring", "a photo of a steel bell", "this is a glass ring on the table"] * 4


def of_bytes() -> PreTrainedTokenizerBase:
    """As GPT-2's: every byte is a token, nothing is unknown, and a space belongs to the word behind it."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=400, initial_alphabet=ByteLevel.alphabet(), show_progress=False, min_frequency=2)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def of_words() -> PreTrainedTokenizerBase:
    words = sorted({word for text in TEXTS for word in text.split()})
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(["<unk>", *words])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize("tokenizer", [build_tokenizer(TEXTS), of_bytes()], ids=["tiny", "byte-level"])
def test_words_that_were_never_seen_are_spelled(tokenizer: PreTrainedTokenizerBase) -> None:
    found = known_words(tokenizer, ["a wooden ring", "xqzjk kvwfx", "a wooden bell"])
    assert found is not None
    assert (found.words, found.unknown, found.spelled) == (6, 0, 2)
    assert found.examples == ("xqzjk", "kvwfx")
    assert found.share_unknown == pytest.approx(1 / 3)
    assert found.as_json()["examples"] == ["xqzjk", "kvwfx"]


def test_another_script_is_spelled_though_every_character_has_several_bytes() -> None:
    found = known_words(of_bytes(), ["\u72d7 \u6728\u5236\u7684\u5706\u73af", "wooden"])
    assert found is not None
    assert (found.words, found.spelled) == (3, 2)


def test_the_unknown_token_is_told_from_spelling() -> None:
    found = known_words(of_words(), ["a wooden ring", "a copper ring"])
    assert found is not None
    assert (found.words, found.unknown, found.spelled, found.examples) == (4, 1, 0, ("copper",))


def test_case_counts_as_the_tokenizer_reads_it() -> None:
    upper = ["A WOODEN RING"]
    one, other = known_words(of_words(), upper), known_words(of_words(), upper, lower=True)
    assert one is not None
    assert other is not None
    assert (one.unknown, other.unknown) == (3, 0)


def test_a_vocabulary_of_bytes_is_not_judged() -> None:
    assert known_words(ByT5Tokenizer(), ["a wooden ring"]) is None


def test_without_a_word_nothing_is_said() -> None:
    assert known_words(of_words(), ["", "... !"]) is None


def test_underscores_join_words_and_apostrophes_do_not_part_them() -> None:
    found = known_words(of_words(), ["wooden_ring", "don't"])
    assert found is not None
    assert (found.words, found.examples) == (3, ("don't",))

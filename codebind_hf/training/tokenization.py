"""Where does a vocabulary come from? A byte-level, CLIP-style BPE trained on given texts, the same every time."""

import json
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer


# Tokens of texts, not of users, which is what the linter takes them for.
BOS_TOKEN = "<|startoftext|>"  # noqa: S105
EOS_TOKEN = "<|endoftext|>"  # noqa: S105
PAD_TOKEN = "<|pad|>"  # noqa: S105
_SPECIAL = (BOS_TOKEN, EOS_TOKEN, PAD_TOKEN)
_SUFFIX = "</w>"
# The trainer numbers symbols with a suffix in the order of a hash map, which changes from run to run. So the last
# character of a word is shifted into a private plane while training, and the suffix is written afterwards.
_SHIFT = 0xF0000


def build_tokenizer(texts: Iterable[str], vocab_size: int = 1024, max_length: int = 64) -> CLIPTokenizer:
    """A lower-casing `CLIPTokenizer` with merges learned from `texts`; ids of begin, end and padding are 0, 1, 2.

    Every byte is in the alphabet, with and without the end-of-word suffix, so any text has ids and the unknown token
    is never produced. Special tokens spelled out in a text are treated as text, so the end token is always the last.

    Raises:
        ValueError: no text, something that is not a string, or a vocabulary too small for the alphabet.
    """
    alphabet = sorted(ByteLevel.alphabet())
    smallest = len(_SPECIAL) + 2 * len(alphabet)
    if not isinstance(vocab_size, int) or vocab_size < smallest:
        raise ValueError(f"vocab_size: got {vocab_size!r}; allowed: {smallest} or more (every byte, twice).")
    if not isinstance(max_length, int) or max_length < 3:
        raise ValueError(f"max_length: got {max_length!r}; allowed: 3 or more (begin, one token, end).")
    merges = _learn_merges(_words(texts), alphabet, vocab_size - len(_SPECIAL))
    tokens = [*_SPECIAL, *alphabet, *(letter + _SUFFIX for letter in alphabet)]
    tokens += list(dict.fromkeys(left + right for left, right in merges))
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))},
        merges=merges,  # type: ignore[arg-type]
        unk_token=EOS_TOKEN,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        pad_token=PAD_TOKEN,
        model_max_length=max_length,
        split_special_tokens=True,
    )
    return tokenizer


def _words(texts: Iterable[str]) -> list[str]:
    """The byte-level words of all texts, each with its last character shifted."""
    if isinstance(texts, str):
        raise ValueError("texts: got one string; allowed: a list of strings. Fix: pass [text].")
    backend = CLIPTokenizer().backend_tokenizer
    words = []
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{index}]: got {type(text).__name__}; allowed: strings.")
        pieces = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
        words += [piece[:-1] + chr(ord(piece[-1]) + _SHIFT) for piece, _ in pieces]
    if not words:
        raise ValueError("texts: got no word; allowed: at least one text with a letter, digit or sign.")
    return words


def _learn_merges(words: list[str], alphabet: list[str], size: int) -> list[tuple[str, str]]:
    """Pairs to merge, most frequent first, until the alphabet and the merged tokens number `size`."""
    learner = Tokenizer(BPE())
    ends = [chr(ord(letter) + _SHIFT) for letter in alphabet]
    trainer = BpeTrainer(vocab_size=size, initial_alphabet=alphabet + ends, show_progress=False, min_frequency=2)
    learner.train_from_iterator(_batches(words), trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(_suffixed(left), _suffixed(right)) for left, right in merges]


def _batches(words: list[str], size: int = 1024) -> Iterator[list[str]]:
    return (words[start : start + size] for start in range(0, len(words), size))


def _suffixed(token: str) -> str:
    is_end = ord(token[-1]) >= _SHIFT
    return token[:-1] + chr(ord(token[-1]) - _SHIFT) + _SUFFIX if is_end else token

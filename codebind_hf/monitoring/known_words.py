"""Does a tokenizer know the words of these texts?

A word is unknown where the tokenizer answers with its unknown token, and spelled where it needs more than one token
and these cover fewer than two bytes each, as letters do. Words that are cut into longer pieces count as known. A word
is tried with and without a space before it, and the better answer counts: byte-level tokenizers tell the two apart.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


MOST_WORDS = 2000
_EXAMPLES = 5
# Letters and digits of any script, also within a word such as "don't".
_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}-][^\W_]+)*")
_LEAST_BYTES = 2
_MARKERS = ("\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}", "\N{LOWER ONE EIGHTH BLOCK}", "##", "</w>")


@dataclass(frozen=True)
class KnownWords:
    """What a tokenizer knows of some words.

    Args:
        words: different words that were tried.
        unknown: of these, words with the unknown token.
        spelled: of these, words in pieces of fewer than two bytes.
        examples: some of the latter two.
    """

    words: int
    unknown: int
    spelled: int
    examples: tuple[str, ...]

    @property
    def share_unknown(self) -> float:
        """Share of the words that are unknown or spelled."""
        return (self.unknown + self.spelled) / self.words

    def as_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return {**asdict(self), "examples": list(self.examples), "share_unknown": self.share_unknown}


def known_words(tokenizer: Any, texts: Iterable[str], lower: bool = False) -> KnownWords | None:
    """How many of the different words of `texts` a tokenizer knows.

    Args:
        tokenizer: of transformers.
        lower: whether texts are put into lower case before they reach it.

    Returns:
        `None` where there is no word, or where the vocabulary holds none: a tokenizer of bytes or characters reads
        every text letter by letter, which is then no fault.
    """
    found = dict.fromkeys(word.lower() if lower else word for text in texts for word in _WORD.findall(text))
    words = list(found)[:MOST_WORDS]
    if not words or not _holds_words(tokenizer):
        return None
    kinds = {word: _kind(tokenizer, word) for word in words}
    unknown, spelled = ([word for word, kind in kinds.items() if kind == each] for each in ("unknown", "spelled"))
    return KnownWords(len(words), len(unknown), len(spelled), tuple([*unknown, *spelled][:_EXAMPLES]))


def _kind(tokenizer: Any, word: str) -> str:
    kinds = set()
    for text in (word, f" {word}"):
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if not ids or tokenizer.unk_token_id in ids:
            kinds.add("unknown")
        else:
            is_spelled = len(ids) > 1 and len(word.encode()) < _LEAST_BYTES * len(ids)
            kinds.add("spelled" if is_spelled else "known")
    return next(kind for kind in ("known", "spelled", "unknown") if kind in kinds)


def _holds_words(tokenizer: Any) -> bool:
    """Whether a vocabulary has entries of three letters or more beside its special tokens."""
    special = {*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())}
    return any(token not in special and len(_plain(token)) > 2 for token in tokenizer.get_vocab())


def _plain(token: str) -> str:
    for marker in _MARKERS:
        token = token.replace(marker, "")
    return token

"""CLIP's published merges file to a `CLIPTokenizer`."""

import gzip
import os
import zlib
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode


BEGIN, END, PAD = "<|startoftext|>", "<|endoftext|>", "!"
_SUFFIX = "</w>"
_NUM_IDS = 49408
# Two ids for each byte (with and without the end of a word), one for each merge, begin and end. The published file
# has more merges than CLIP was trained with.
_NUM_MERGES = 49152 - 256 - 2
_MAX_LENGTH = 77


def clip_tokenizer(bpe_file: str | os.PathLike[str]) -> CLIPTokenizer:
    """The tokenizer of CLIP, ImageBind and CodeBind: 49408 ids, begin 49406, end 49407, padding 0, at most 77 tokens.

    Padding is spelled "!", as id 0 is; so special tokens inside a text are read as text (`split_special_tokens`), and
    `CodeBindProcessor(text_cleaning="clip")` finds those that a text spells out. A text that is too long keeps its
    end token, as in ImageBind. (The tokenizer of Visual-AI/CodeBind@bba682e cuts it off, and then pools the first
    token instead of the last.)

    Args:
        bpe_file: `bpe_simple_vocab_16e6.txt.gz` of openai/CLIP; facebookresearch/ImageBind@53680b0 has it in
            `imagebind/bpe`.

    Raises:
        OSError: the file is missing, unreadable or damaged.
        ValueError: the file does not hold the merges of CLIP's vocabulary.
    """
    merges = _merges(Path(bpe_file))
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + _SUFFIX for letter in letters), *map("".join, merges), BEGIN, END]
    vocab = {token: index for index, token in enumerate(tokens)}
    parts = {part for merge in merges for part in merge}
    if len(vocab) != _NUM_IDS or not parts <= vocab.keys():
        strange = sorted(parts - vocab.keys())[:1]
        got = f"a merge of the unknown token {strange[0]!r}" if strange else f"{_NUM_IDS - len(vocab)} repeated tokens"
        raise ValueError(f"bpe_file: {str(bpe_file)!r} has {got}; expected the merges of CLIP's {_NUM_IDS} tokens.")
    return CLIPTokenizer(
        vocab=vocab,
        merges=merges,  # type: ignore[arg-type]
        unk_token=END,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        model_max_length=_MAX_LENGTH,
        split_special_tokens=True,
    )


def _merges(file: Path) -> list[tuple[str, str]]:
    """The merges that CLIP uses: the lines after the first, until the vocabulary is full."""
    try:
        lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        fix = "pass bpe_simple_vocab_16e6.txt.gz of openai/CLIP, as it was downloaded."
        raise OSError(f"bpe_file: cannot read {str(file)!r} ({error}). Fix: {fix}") from error
    pairs = [tuple(line.split()) for line in lines[1 : _NUM_MERGES + 1]]
    merges = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    if len(merges) != _NUM_MERGES:
        raise ValueError(
            f"bpe_file: {str(file)!r} has {len(merges)} merges; expected at least {_NUM_MERGES} after a first line. "
            "Fix: pass bpe_simple_vocab_16e6.txt.gz of openai/CLIP."
        )
    return merges

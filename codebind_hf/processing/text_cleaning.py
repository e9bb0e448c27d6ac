"""Which token ids does a text have? Cleaning as CLIP's training texts had it, then the tokenizer."""

import functools
import html
import importlib
import re
from collections.abc import Sequence
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils import logging

from .arrays import split_items
from .values import describe, refuse


logger = logging.get_logger(__name__)

CLEANINGS = (None, "clip", "open_clip", "vitlens")
# Text in which ftfy finds nothing to repair: printable ASCII and line breaks, without an HTML entity.
_PLAIN = re.compile(r"[\t\n\r -~]*")
_ENTITY = re.compile(r"&[^;]*;")
# How OpenCLIP's tokenizer spells begin and end; CLIP's has the names of its own tokens.
_OPEN_CLIP_TOKENS = ("<start_of_text>", "<end_of_text>")
_CAPTION_SIGNS = re.compile(r"[.!\"()*#:;~]")
_CAPTION_WORDS = 70
# Surrogates, which only in pairs and only in UTF-16 are a character; tokenizers refuse them in words of their own.
HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def split_texts(texts: Any) -> tuple[list[str], list[str]]:
    """Texts and a label for each; a single one becomes a list.

    Raises:
        ValueError: no text, something that is none, or half a character in one.
    """
    items, labels = split_items(texts, "text", None)
    for item, label in zip(items, labels, strict=True):
        if not isinstance(item, str):
            refuse(label, f"got {describe(item)}", "str", "convert with `str(...)`; token ids go to the model.")
        if not item.isascii() and (half := HALF_CHARACTER.search(item)):
            fix = '`text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")` joins what belongs together.'
            got = f"got half a character, {half.group()!a}, at place {half.start()}"
            refuse(label, got, "text of whole Unicode characters", fix)
    return items, labels


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[str],
    cleaning: str | None,
    padding: str,
    max_length: int,
    return_tensors: str | None,
) -> BatchEncoding:
    """`input_ids` and `attention_mask` of texts; one that is too long is cut, and its end token kept.

    Args:
        labels: name of every text, for messages.
        cleaning: `None`, or "clip": see `clean_clip_text`; also, begin and end tokens that a text spells out become
            those tokens, as in facebookresearch/ImageBind@53680b0 models/multimodal_preprocessors.py. "open_clip" is
            the same for the tokens' names in OpenCLIP, and "vitlens" cleans captions before (`clean_caption`).
        padding: "max_length" or "longest".

    Raises:
        ImportError: a text needs ftfy, which is not installed.
    """
    options: dict[str, Any] = {"truncation": True, "max_length": max_length, "return_token_type_ids": False}
    if cleaning is None:
        # Some networks were trained on padding and ask for no mask; ours expects one.
        options["return_attention_mask"] = True
        return _noted(tokenizer(list(texts), padding=padding, return_tensors=return_tensors, **options), max_length)
    if cleaning == "vitlens":
        texts = [clean_caption(text) for text in texts]
    cleaned = [clean_clip_text(text, label, cleaning) for text, label in zip(texts, labels, strict=True)]
    names = (str(tokenizer.bos_token), str(tokenizer.eos_token)) if cleaning == "clip" else _OPEN_CLIP_TOKENS
    spelled = _spelled_pattern(*names)
    if not any(spelled.search(text) for text in cleaned):
        return _noted(tokenizer(cleaned, padding=padding, return_tensors=return_tensors, **options), max_length)
    rows = [_ids_with_spelled_tokens(tokenizer, text, names, max_length) for text in cleaned]
    length = max_length if padding == "max_length" else max(map(len, rows))
    padded = {
        "input_ids": [row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (length - len(row)) for row in rows],
    }
    return BatchEncoding(padded, tensor_type=return_tensors)


def _noted(encoded: BatchEncoding, max_length: int) -> BatchEncoding:
    """What a tokenizer gave; the first time that it cut a text, with a word about it in the log."""
    if any(each.overflowing for each in encoded.encodings or ()):
        logger.warning_once(
            f"text: longer than the {max_length} tokens that are read; what follows them is left out (said once)."
        )
    return encoded


def clean_clip_text(text: str, label: str = "text", cleaning: str = "clip") -> str:
    """`text` in lower case, broken Unicode repaired, HTML entities read twice, white space single and trimmed.

    Source: facebookresearch/ImageBind@53680b0 models/multimodal_preprocessors.py, as OpenAI's CLIP before it.

    Raises:
        ImportError: ftfy is not installed and the text is more than plain ASCII.
    """
    if not _PLAIN.fullmatch(text) or _ENTITY.search(text):
        text = _ftfy(label, cleaning).fix_text(text)
    text = html.unescape(html.unescape(text))
    return re.sub(r"\s+", " ", text).strip().lower()


def clean_caption(text: str) -> str:
    """`text` in lower case without most punctuation, at most 70 words.

    Source: the caption processor of TencentARC/ViT-Lens@2b4f2e0, which is LAVIS's.
    """
    text = re.sub(r"\s{2,}", " ", _CAPTION_SIGNS.sub(" ", text.lower()))
    return " ".join(text.rstrip("\n").strip(" ").split(" ")[:_CAPTION_WORDS])


def _ftfy(label: str, cleaning: str) -> Any:
    try:
        return importlib.import_module("ftfy")
    except ImportError as error:
        raise ImportError(
            f"{label}: got text beyond plain ASCII, which text_cleaning={cleaning!r} repairs with `ftfy`; it is not "
            "installed. Fix: pip install 'codebind-hf[text]'."
        ) from error


@functools.lru_cache(maxsize=4)
def _spelled_pattern(begin: str, end: str) -> re.Pattern[str]:
    """Begin and end tokens as CLIP's word pattern finds them: not where a run of signs has swallowed their `<|`."""
    token = f"{re.escape(begin)}|{re.escape(end)}"
    return re.compile(rf"(?<![^\w\s])(?<!_)((?:{token})+)")


def _ids_with_spelled_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, names: tuple[str, str], max_length: int
) -> list[int]:
    """Ids of one text, begin and end included, in which begin and end spelled by their `names` count as tokens.

    The tokenizer must not find them itself: it would also find its padding token, which CLIP spells "!".
    """
    ids: list[int] = []
    begin, end = names
    for position, piece in enumerate(_spelled_pattern(begin, end).split(text)):
        if position % 2:
            found = re.findall(f"{re.escape(begin)}|{re.escape(end)}", piece)
            ids += [tokenizer.bos_token_id if token == begin else tokenizer.eos_token_id for token in found]
        elif piece:
            ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return [tokenizer.bos_token_id, *ids[: max_length - 2], tokenizer.eos_token_id]

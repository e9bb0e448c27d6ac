"""Which token ids does a text have? Cleaning as CLIP's training texts had it, then the tokenizer."""

import functools
import html
import importlib
import re
from collections.abc import Sequence
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerBase


CLEANINGS = (None, "clip")
# Text in which ftfy finds nothing to repair: printable ASCII and line breaks, without an HTML entity.
_PLAIN = re.compile(r"[\t\n\r -~]*")
_ENTITY = re.compile(r"&[^;]*;")


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
            those tokens, as in facebookresearch/ImageBind@53680b0 models/multimodal_preprocessors.py.
        padding: "max_length" or "longest".

    Raises:
        ImportError: a text needs ftfy, which is not installed.
    """
    options: dict[str, Any] = {"truncation": True, "max_length": max_length, "return_token_type_ids": False}
    if cleaning is None:
        return tokenizer(list(texts), padding=padding, return_tensors=return_tensors, **options)
    cleaned = [clean_clip_text(text, label) for text, label in zip(texts, labels, strict=True)]
    spelled = _spelled_tokens(tokenizer)
    if not any(spelled.search(text) for text in cleaned):
        return tokenizer(cleaned, padding=padding, return_tensors=return_tensors, **options)
    rows = [_ids_with_spelled_tokens(tokenizer, text, spelled, max_length) for text in cleaned]
    length = max_length if padding == "max_length" else max(map(len, rows))
    padded = {
        "input_ids": [row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (length - len(row)) for row in rows],
    }
    return BatchEncoding(padded, tensor_type=return_tensors)


def clean_clip_text(text: str, label: str = "text") -> str:
    """`text` in lower case, broken Unicode repaired, HTML entities read twice, white space single and trimmed.

    Source: facebookresearch/ImageBind@53680b0 models/multimodal_preprocessors.py, as OpenAI's CLIP before it.

    Raises:
        ImportError: ftfy is not installed and the text is more than plain ASCII.
    """
    if not _PLAIN.fullmatch(text) or _ENTITY.search(text):
        text = _ftfy(label).fix_text(text)
    text = html.unescape(html.unescape(text))
    return re.sub(r"\s+", " ", text).strip().lower()


def _ftfy(label: str) -> Any:
    try:
        return importlib.import_module("ftfy")
    except ImportError as error:
        raise ImportError(
            f"{label}: got text beyond plain ASCII, which text_cleaning='clip' repairs with `ftfy`; it is not "
            "installed. Fix: pip install 'codebind-hf[text]'."
        ) from error


def _spelled_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    return _spelled_pattern(str(tokenizer.bos_token), str(tokenizer.eos_token))


@functools.lru_cache(maxsize=4)
def _spelled_pattern(begin: str, end: str) -> re.Pattern[str]:
    """Begin and end tokens as CLIP's word pattern finds them: not where a run of signs has swallowed their `<|`."""
    token = f"{re.escape(begin)}|{re.escape(end)}"
    return re.compile(rf"(?<![^\w\s])(?<!_)((?:{token})+)")


def _ids_with_spelled_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, spelled: re.Pattern[str], max_length: int
) -> list[int]:
    """Ids of one text, begin and end included, in which spelled tokens count as tokens.

    The tokenizer must not find them itself: it would also find its padding token, which CLIP spells "!".
    """
    ids: list[int] = []
    for position, piece in enumerate(spelled.split(text)):
        if position % 2:
            begin, end = str(tokenizer.bos_token), str(tokenizer.eos_token)
            found = re.findall(f"{re.escape(begin)}|{re.escape(end)}", piece)
            ids += [tokenizer.bos_token_id if token == begin else tokenizer.eos_token_id for token in found]
        elif piece:
            ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return [tokenizer.bos_token_id, *ids[: max_length - 2], tokenizer.eos_token_id]

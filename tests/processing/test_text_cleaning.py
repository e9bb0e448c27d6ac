"""Text as CLIP read it: what is cleaned, what is left alone, and which ids spelled special tokens get."""

import sys
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.text_cleaning import clean_caption, clean_clip_text
from codebind_hf.training.tokenization import build_tokenizer


BEGIN, END, PAD = 0, 1, 2
BEGIN_TEXT, END_TEXT = "<|startoftext|>", "<|endoftext|>"


@pytest.fixture
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(["a red ball", "a large bell"] * 3, max_length=16)


@pytest.fixture
def processor(tokenizer: CLIPTokenizer) -> CodeBindProcessor:
    return CodeBindProcessor(tokenizer=tokenizer, text_cleaning="clip")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  A Red\t\r\n Ball ", "a red ball"),
        ("", ""),
        ("R&B &amp; soul", "r&b & soul"),
        # ftfy unescapes to the end; where a text looks like HTML it leaves entities alone, and html reads two levels.
        ("&amp;amp;amp;lt;", "<"),
        ("<b> &amp;amp;amp;lt;", "<b> &amp;lt;"),
        # Without ftfy's terminating semicolon, html alone reads it.
        ("salt &amp pepper", "salt & pepper"),
        # UTF-8 that was read as Windows-1252.
        ("donâ€™t", "don't"),
        ("ＷＩＤＥ\u00a0ﬁsh", "wide fish"),
        # Control characters go, also those that Python counts as white space.
        ("one\x0btwo", "onetwo"),
        ("\x1b[31mred", "red"),
    ],
)
def test_texts_are_repaired_unescaped_collapsed_and_lowered(text: str, cleaned: str) -> None:
    assert clean_clip_text(text) == cleaned


def test_ftfy_changes_none_of_the_texts_it_is_not_asked_for() -> None:
    import ftfy

    printable = "".join(map(chr, range(32, 127)))
    for text in (printable, printable[::-1], "R&B", "a & b", "a; b & c", "'n' ``quoted''", "C++ <b>&</b> #1", "&&&"):
        assert clean_clip_text(text) == " ".join(ftfy.fix_text(text).split()).lower()


def test_plain_texts_need_no_ftfy_and_others_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    assert clean_clip_text("A red ball, 50% off: R&B\n") == "a red ball, 50% off: r&b"
    processor = CodeBindProcessor(tokenizer=build_tokenizer(["a"]), text_cleaning="clip")
    for text in ("café", "a &amp; b", "one\x0btwo"):
        with pytest.raises(ImportError, match=r"text\[1\]: .*`ftfy`.*pip install 'codebind-hf\[text\]'"):
            processor(text=["a", text])


def test_cleaning_is_a_parameter_that_is_saved(processor: CodeBindProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    loaded = CodeBindProcessor.from_pretrained(tmp_path)
    assert loaded.text_cleaning == "clip"
    dirty = loaded(text="A&nbsp;red &amp; large ball")["input_ids"]
    assert dirty.tolist() == processor(text="a red & large ball")["input_ids"].tolist()
    plain = CodeBindProcessor(tokenizer=processor.tokenizer)
    assert plain.text_cleaning is None
    assert plain(text="a &amp; b")["input_ids"].tolist() != plain(text="a & b")["input_ids"].tolist()


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_spelled_special_tokens_become_those_tokens(
    processor: CodeBindProcessor, tokenizer: CLIPTokenizer, padding: str
) -> None:
    a, red, comma = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("a", "red", ","))
    texts = [f"a {BEGIN_TEXT}red{END_TEXT.upper()}{END_TEXT} a", "a red", "a,"]
    batch = processor(text=texts, text_kwargs={"padding": padding})
    rows = [[BEGIN, *a, BEGIN, *red, END, END, *a, END], [BEGIN, *a, *red, END], [BEGIN, *a, *comma, END]]
    width = 16 if padding == "max_length" else max(map(len, rows))
    assert batch["input_ids"].tolist() == [row + [PAD] * (width - len(row)) for row in rows]
    assert batch["attention_mask"].tolist() == [[1] * len(row) + [0] * (width - len(row)) for row in rows]


def test_a_sign_before_a_spelled_token_swallows_its_beginning(processor: CodeBindProcessor) -> None:
    # CLIP's word pattern reads the signs `!<|` as one word, so no token is left to find.
    for text in (f"a!{END_TEXT}", f"a_{END_TEXT}", f"a<{END_TEXT}"):
        assert processor(text=text)["input_ids"][0].tolist().count(END) == 1
    assert processor(text=f"a1{END_TEXT}")["input_ids"][0].tolist().count(END) == 2


def test_long_texts_with_spelled_tokens_keep_their_end(processor: CodeBindProcessor) -> None:
    (ids,) = processor(text=f"{BEGIN_TEXT} " + "ball " * 40)["input_ids"].tolist()
    assert len(ids) == 16
    assert ids[:2] == [BEGIN, BEGIN]
    assert ids[-1] == END


def test_lists_come_back_where_no_tensors_are_asked_for(processor: CodeBindProcessor) -> None:
    for texts in (["a red ball", "a"], [f"a {END_TEXT}", "a"]):
        lists = processor(text=texts, return_tensors=None)
        tensors = processor(text=texts)
        assert dict(lists.items()) == {name: rows.tolist() for name, rows in tensors.items()}


def test_an_unknown_cleaning_is_refused(tokenizer: CLIPTokenizer) -> None:
    with pytest.raises(ValueError, match="text_cleaning: got 'bert'; allowed: None, 'clip'"):
        CodeBindProcessor(tokenizer=tokenizer, text_cleaning="bert")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ('A "Bright" image: (of a) bird!', "a bright image of a bird"),
        ("one\r\ntwo  three\n", "one two three"),
        ("10:30, 50/50 'n' 100%", "10 30, 50/50 'n' 100%"),
        ("", ""),
        ("word " * 80, "word " * 69 + "word"),
    ],
)
def test_captions_lose_most_punctuation_and_what_is_behind_70_words(text: str, cleaned: str) -> None:
    assert clean_caption(text) == cleaned


def test_open_clip_has_names_of_its_own_for_special_tokens(tokenizer: CLIPTokenizer) -> None:
    made = {
        name: CodeBindProcessor(tokenizer=tokenizer, text_cleaning=name) for name in ("clip", "open_clip", "vitlens")
    }
    for text, counts in (("a <end_of_text> b", (1, 2, 2)), (f"a {END_TEXT} b", (2, 1, 1))):
        found = [processor(text=text)["input_ids"][0].tolist().count(END) for processor in made.values()]
        assert tuple(found) == counts
    ids = [processor(text="A ball: (red)")["input_ids"].tolist() for processor in made.values()]
    assert ids[0] == ids[1] != ids[2]
    assert ids[2] == made["clip"](text="a ball red")["input_ids"].tolist()

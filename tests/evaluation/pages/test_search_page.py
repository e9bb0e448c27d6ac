from pathlib import Path

import numpy as np
import pytest
from page_checks import check_page

from codebind_hf.evaluation import write_search_page


def test_a_page_shows_what_was_asked_and_what_was_found(tmp_path: Path) -> None:
    query = {"modality": "audio", "value": {"array": np.zeros(800), "sampling_rate": 8000}, "name": "<bell>.wav"}
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    results = {
        "image": [
            {"name": "b.png", "cosine": 0.75, "value": pixels},
            {"name": "<script>", "cosine": -0.1234, "value": tmp_path / "missing.png"},
        ],
        "text": [{"name": "", "cosine": 0.5, "value": "a <b>bell</b>"}],
        "eeg": [],
    }
    file = write_search_page(tmp_path / "new" / "page.html", query, results)
    text = file.read_text()
    assert file == tmp_path / "new" / "page.html"
    check_page(text)
    assert "&lt;bell&gt;.wav" in text
    assert "cosine +0.750" in text
    assert "cosine -0.123" in text
    assert "missing.png" in text
    assert "a &lt;b&gt;bell&lt;/b&gt;" in text
    assert "Nothing was found." in text
    assert text.count("<audio") == 1
    assert text.count("<script>") == 1


def test_a_query_that_cannot_be_read_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        write_search_page(tmp_path / "page.html", {"modality": "image", "value": tmp_path / "missing.png"}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        '<h1>A</h1><img src="https://example.org/a.png" alt="a">',
        '<h1>A</h1><img src="data:,">',
        "<h1>A</h1><h3>B</h3>",
        "<h1>A</h1><table><tr><td>1</td></tr></table>",
        "<h1>A</h1><div>",
    ],
)
def test_the_check_of_pages_notices_what_is_wrong(body: str) -> None:
    with pytest.raises(AssertionError):
        check_page(f'<html lang="en"><head><title>t</title></head><body>{body}</body></html>')

"""Write the table of originals in docs/conversion.md from the registry: python tests/scripts/write_originals.py"""

from pathlib import Path

from codebind_hf.conversion.originals import originals_table
from codebind_hf.evaluation.writing import write_text


PAGE = Path(__file__).parents[2] / "docs" / "conversion.md"
BEGIN, END = "<!-- originals: begin -->", "<!-- originals: end -->"


def page_with_table(text: str) -> str:
    """The page with the registry's table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{originals_table()}\n{END}{after}"


if __name__ == "__main__":
    write_text(PAGE, page_with_table(PAGE.read_text(encoding="utf-8")))

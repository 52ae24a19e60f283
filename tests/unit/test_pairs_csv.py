"""Pairs from tables: what is read, and what is refused with which words."""

from __future__ import annotations

import csv
import io
from itertools import islice

import pytest

from interp.behaviors import PromptPair, table
from interp.errors import BadInput, UnknownName

PAIRS = (
    PromptPair("When Mary left,", "When John left,", " she", " he"),
    PromptPair('He said "no"; she', "He said yes;\nthey", " left", ""),
)
FIX = (
    "Write one pair a line: clean, corrupted, answer, foil; quote a field that holds the separator."
)
HEAD = "clean,corrupted,answer,foil\n"


def refused(data: bytes | str) -> str:
    with pytest.raises(BadInput) as error:
        table.read(data)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 800
    return text


def written(rows: list[tuple[str, ...]], separator: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\n").writerows(rows)
    return out.getvalue()


# --- what is read ---------------------------------------------------------------------------------


def test_what_is_written_is_read() -> None:
    text = table.write(PAIRS)
    assert text.splitlines()[0] == "clean,corrupted,answer,foil"
    assert table.read(text) == table.read(text.encode()) == PAIRS


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_line_ends_and_byte_order_marks(separator: str, end: str, mark: str) -> None:
    rows = [("Answer ", "CLEAN", "foil", "Corrupted"), (" b", "x, y; z", "", "x, y; w")]
    text = mark + written(rows, separator).replace("\n", end)
    assert table.read(text.encode()) == (PromptPair("x, y; z", "x, y; w", " b"),)


def test_spaces_belong_to_fields() -> None:
    assert table.read("clean,corrupted,answer\n a , b , c ")[0] == PromptPair(" a ", " b ", " c ")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_three_or_four_columns_need_no_header(separator: str) -> None:
    rows = [("a", "b", "c"), ("d", "e", "f")]
    assert table.read(written(rows, separator)) == (
        PromptPair("a", "b", "c"),
        PromptPair("d", "e", "f"),
    )
    four = [(*row, "g") for row in rows]
    assert [pair.foil for pair in table.read(written(four, separator))] == ["g", "g"]


def test_prompts_with_commas_may_be_separated_by_tabs() -> None:
    rows = [("When A and B left, A", "When A and B left, B", " B", " A")]
    assert table.read(written(rows, "\t"))[0].corrupted == "When A and B left, B"
    with pytest.raises(BadInput, match="comma or by semicolon"):  # the control: either may be meant
        table.read("When A and B left, A;When A and B left, B; B; A")


def test_an_answer_that_reads_like_a_header_is_none() -> None:
    assert table.read("The house is,The house was, clean, dirty")[0].answer == " clean"


def test_empty_lines_are_no_rows() -> None:
    assert len(table.read(f"\n\n{HEAD}\na,b,c,d\n,,,\n\ne,f,g,\n\n")) == 2


def test_a_thousand_pairs_are_read() -> None:
    assert len(table.read(HEAD + "".join(f"a{i},b{i},c,d\n" for i in range(1000)))) == 1000


# --- what is refused ------------------------------------------------------------------------------


def test_more_pairs_than_are_read() -> None:
    text = HEAD + "".join(f"a{i},b{i},c,d\n" for i in range(1234))
    assert refused(text) == (
        "The table has 1,235 lines. At most 1,000 pairs are read. Keep a sample of them, or ask "
        "several times and compare."
    )


def test_a_million_rows_are_refused_without_parsing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0
    whole = csv.reader

    def counted(*args: object, **more: object) -> object:
        rows = whole(*args, **more)  # type: ignore[arg-type]

        class Rows:
            line_num = property(lambda self: rows.line_num)

            def __next__(self) -> list[str]:
                nonlocal parsed
                parsed += 1
                return next(rows)

        return Rows()

    monkeypatch.setattr(csv, "reader", counted)
    assert "6.0 MB" in refused(b"a,b,c\n" * 1_000_000)
    assert "1,000,000 lines" in refused(b",,,\n" * 1_000_000)
    assert "800,000 lines" in refused(b"a,b,c\n" * 800_000)
    assert parsed == 0
    assert "2,000 lines" in refused("".join(f"{i},b,c\n" for i in range(2000)))
    assert 1000 < parsed < 10_000  # the control: it is counted


def test_too_large() -> None:
    for data in (b"x" * 5_000_001, "é" * 2_500_001):
        assert refused(data).startswith("The table has 5.0 MB. At most 5 MB are read.")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "clean,corrupted,answer\na,b,c".encode("utf-16"),
            "Line 1 of the table has a NUL byte. No text has one: it may be UTF-16, or no table at "
            "all. Save it as CSV in UTF-8.",
        ),
        (
            b"clean,corrupted,answer\na,b,c\n\0",
            "Line 3 of the table has a NUL byte. No text has one: it may be UTF-16, or no table at "
            "all. Save it as CSV in UTF-8.",
        ),
        (
            "clean,corrupted,answer\ncaf\xe9,b,c".encode("latin-1"),
            "Line 2 of the table has the byte 0xe9. That is not UTF-8 there. Save it as CSV in "
            "UTF-8.",
        ),
        (
            "clean,corrupted,answer\na,\ud800,c",
            "Line 2 of the table has the byte 0xed. That is not UTF-8 there. Save it as CSV in "
            "UTF-8.",
        ),
        ("", f"The table has no pair. It is empty. {FIX}"),
        (" \n \n", f"The table has no pair. It is empty. {FIX}"),
        (HEAD, f"The table has no pair. There is no row with text in it. {FIX}"),
        (
            "hello",
            "The text was read as a table. No line of it has a comma, a semicolon or a tab between "
            f"columns. {FIX}",
        ),
        (
            'clean,corrupted,answer\na,b,c\n"a,b,c\nd,e,f\n',
            "Line 3 of the table cannot be read. Unexpected end of data: a quote may be open, or a "
            "field too long. Write a quote inside a quoted field twice.",
        ),
        (
            "clean,corrupted,answer\na," + "x" * 4_000_000 + ",c",
            "Line 2 of the table cannot be read. Field larger than field limit (131072): a quote "
            "may be open, or a field too long. Write a quote inside a quoted field twice.",
        ),
        (
            "clean,corrupted,answer\na," + "x" * 100_001 + ",c",
            "1 of 1 rows of the table cannot be used. Line 2 has 100,001 characters in corrupted. "
            + FIX,
        ),
        (
            "a,b;c,d;e,f\n",
            "The table has no header. Its columns may be separated by comma or by semicolon. "
            "Begin it with the line: clean,corrupted,answer,foil.",
        ),
        (
            "clean,answer\na,b",
            "The table has the columns clean, answer. There is no corrupted. Needed are clean, "
            "corrupted, answer; foil may be missing.",
        ),
        (
            "clean,corrupted,answer,answer\na,b,c,d",
            "The table has 2 columns 'answer'. Keep one.",
        ),
        (
            "a,b,c\nd,e\nf,g,h,i\n",
            "2 of 3 rows of the table cannot be used. Line 2 has 2 columns, not 3; line 3 has 4 "
            f"columns, not 3. {FIX}",
        ),
    ],
)
def test_is_refused_with_these_words(data: bytes | str, said: str) -> None:
    assert refused(data) == said


def test_a_misspelt_column_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no column called 'corrupt'.*Did you mean 'corrupted'"):
        table.read("clean,corrupt,answer\na,b,c")


def test_wrong_rows_are_listed_by_line_up_to_five() -> None:
    rows = ["a,b,c,d", "a,b", ",b,c,d", '"a\nb",,,d', "x,y,z,", "a,b,c,d", "1,2,3,4,5", "6", "7,8"]
    assert refused(HEAD + "\n".join(rows)) == (
        "7 of 9 rows of the table cannot be used. Line 3 has 2 columns, not 4; line 4 has no "
        "clean; line 5 has no corrupted and no answer; line 8 repeats line 2 ('a'); line 9 "
        f"has 5 columns, not 4; and 2 more. {FIX}"
    )


def test_the_first_rows_of_a_long_table_are_not_taken_silently() -> None:
    """Neither the first 1,000 of 1,001 pairs, nor the right ones beside wrong ones."""
    right = [f"a{i},b{i},c,d\n" for i in range(1001)]
    for rows in (right, [*islice(right, 5), "wrong\n"]):
        with pytest.raises(BadInput):
            table.read(HEAD + "".join(rows))

"""Many prompt pairs from a table: CSV, tab or semicolon separated, as spreadsheets write them.

A row that is wrong is never skipped or repaired: the whole table is refused, and the message names
the lines.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from interp.behaviors._record import PromptPair
from interp.behaviors.alignment import short
from interp.errors import BadInput, UnknownName

COLUMNS = ("clean", "corrupted", "answer", "foil")
NEEDED = COLUMNS[:3]
MOST_PAIRS = 1000
MOST_BYTES = 5_000_000
MOST_CHARACTERS = 100_000
"""Longest field; no model here reads more."""
_MOST_LINES = 100 * MOST_PAIRS  # a prompt may have line breaks, but not so many
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
_LISTED = 5
_FIX = (
    "Write one pair a line: clean, corrupted, answer, foil; quote a field that holds the separator."
)

_Row = tuple[int, list[str]]
"""Line at which a row begins, counted from 1, and its fields."""


def read(data: bytes | str) -> tuple[PromptPair, ...]:
    """Read prompt pairs from the contents of a table.

    A header names the columns clean, corrupted, answer and foil, in any order and case; foil may
    be missing. Without a header the columns are these, in this order. Fields are taken exactly as
    they are, spaces included, since an answer is often a token that begins with one. Empty lines
    are no rows. The separator is the only one of comma, semicolon and tab under which the header,
    or else every row, is a pair; a tab is preferred.

    Args:
        data: Contents of the file, UTF-8 with or without a byte order mark, or text.

    Raises:
        BadInput: It is too large, has too many pairs, is no such table, or has wrong rows; up to
            five of them are listed with their lines.

    Cost: linear; at most ``MOST_BYTES`` are looked at and ``MOST_PAIRS`` rows parsed.
    """
    text = _decoded(data)
    if not text.strip():
        raise BadInput("The table has no pair.", "It is empty.", _FIX)
    if _lines(text) > _MOST_LINES:
        raise _too_many(_lines(text))
    separator, header = _layout(text)
    order = _order(header) if header else COLUMNS
    rows = _rows(text, separator)
    if header:
        next(rows)
    kept: list[_Row] = []
    for row in rows:
        if len(kept) == MOST_PAIRS:
            raise _too_many(_lines(text))
        kept.append(row)
    if not kept:
        raise BadInput("The table has no pair.", "There is no row with text in it.", _FIX)
    _check(kept, order, bool(header))
    return tuple(PromptPair(**dict(zip(order, fields, strict=False))) for _, fields in kept)


def write(pairs: Sequence[PromptPair]) -> str:
    """Write pairs as CSV with a header; ``read`` gives them back."""
    out = io.StringIO()
    # With both marks as the line's end, fields that hold either are quoted.
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows((p.clean, p.corrupted, p.answer, p.foil) for p in pairs)
    return out.getvalue()


def _decoded(data: bytes | str) -> str:
    """Check size and encoding before anything is parsed."""
    size = len(data) if isinstance(data, bytes) or len(data) > MOST_BYTES else len(_bytes(data))
    if size > MOST_BYTES:
        raise BadInput(
            f"The table has {size / 1e6:,.1f} MB.",
            f"At most {MOST_BYTES / 1e6:.0f} MB are read.",
            f"Split it, or keep a sample of up to {MOST_PAIRS:,} pairs.",
        )
    raw = data if isinstance(data, bytes) else _bytes(data)
    nul = raw.find(b"\0")
    if nul >= 0:
        raise BadInput(
            f"Line {_line(raw, nul)} of the table has a NUL byte.",
            "No text has one: it may be UTF-16, or no table at all.",
            "Save it as CSV in UTF-8.",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"Line {_line(raw, error.start)} of the table has the byte 0x{raw[error.start]:02x}.",
            "That is not UTF-8 there.",
            "Save it as CSV in UTF-8.",
        ) from error


def _line(raw: bytes, at: int) -> int:
    return raw.count(b"\n", 0, at) + 1


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _layout(text: str) -> tuple[str, list[str]]:
    """Return the separator and the header's names, none where there is no header."""
    headers: dict[str, list[str]] = {}
    fitting: list[str] = []
    for name, separator in _SEPARATORS.items():
        first = next(_rows(text, separator, strict=False), None)
        if first is None:
            continue
        cells = [cell.strip().lower() for cell in first[1]]
        if len(set(cells) & set(COLUMNS)) >= 2 or cells[0] == COLUMNS[0]:
            headers[name] = cells
        elif _fits(text, separator):
            fitting.append(name)
    # Prompts have commas and semicolons, hardly ever two tabs a line.
    found = list(headers) or (["tab"] if "tab" in fitting else fitting)
    if len(found) > 1:
        raise BadInput(
            "The table has no header.",
            f"Its columns may be separated by {' or by '.join(found)}.",
            f"Begin it with the line: {','.join(COLUMNS)}.",
        )
    if found:
        return _SEPARATORS[found[0]], headers.get(found[0], [])
    # No reading is right: the likeliest one tells which rows are wrong.
    head = text[:MOST_CHARACTERS]
    likely = max(_SEPARATORS.values(), key=head.count)
    if likely not in head:
        raise BadInput(
            "The text was read as a table.",
            "No line of it has a comma, a semicolon or a tab between columns.",
            _FIX,
        )
    return likely, []


def _fits(text: str, separator: str) -> bool:
    """Whether every row that will be read has three or four fields, all as many."""
    lengths: set[int] = set()
    for i, (_, fields) in enumerate(_rows(text, separator, strict=False)):
        if i == MOST_PAIRS or len(lengths) > 1:
            break
        lengths.add(len(fields))
    return lengths in ({3}, {4})


def _rows(text: str, separator: str, *, strict: bool = True) -> Iterator[_Row]:
    """Parse rows that have text in them; ``strict`` raises where quotes do not match."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not strict:
                return
            raise BadInput(
                f"Line {line} of the table cannot be read.",
                f"{str(error).capitalize()}: a quote may be open, or a field too long.",
                "Write a quote inside a quoted field twice.",
            ) from error
        if any(fields):
            yield line, fields
        line = reader.line_num + 1


def _order(header: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns as the header has them.

    Raises:
        BadInput: A column is missing, unknown or there twice.
    """
    for name in header:
        if name not in COLUMNS:
            raise UnknownName.of("column", name, COLUMNS)
        if header.count(name) > 1:
            raise BadInput(f"The table has {header.count(name)} columns {name!r}.", "", "Keep one.")
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise BadInput(
            f"The table has the columns {', '.join(header)}.",
            f"There is no {' and no '.join(missing)}.",
            f"Needed are {', '.join(NEEDED)}; foil may be missing.",
        )
    return tuple(header)


def _check(rows: Sequence[_Row], order: Sequence[str], named: bool) -> None:
    """Refuse wrong rows, all at once."""
    wrong = list(_wrong(rows, order, named))
    if not wrong:
        return
    listed = "; ".join(f"line {line} {what}" for line, what in wrong[:_LISTED])
    more = f"; and {len(wrong) - _LISTED:,} more" if len(wrong) > _LISTED else ""
    raise BadInput(
        f"{len(wrong):,} of {len(rows):,} rows of the table cannot be used.",
        f"{listed[0].upper()}{listed[1:]}{more}.",
        _FIX,
    )


def _wrong(rows: Sequence[_Row], order: Sequence[str], named: bool) -> Iterator[tuple[int, str]]:
    """Say what is wrong with each wrong row."""
    lengths = [len(fields) for _, fields in rows]
    wanted = len(order) if named else max((3, 4), key=lengths.count)
    seen: dict[tuple[str, ...], int] = {}
    for line, fields in rows:
        if len(fields) != wanted:
            s = "s" if len(fields) > 1 else ""
            yield line, f"has {len(fields)} column{s}, not {wanted}"
            continue
        cells = dict(zip(order, fields, strict=False))
        empty = [name for name in NEEDED if not cells[name]]
        long = [name for name in order if len(cells.get(name, "")) > MOST_CHARACTERS]
        if empty:
            yield line, f"has no {' and no '.join(empty)}"
        elif long:
            yield line, f"has {len(cells[long[0]]):,} characters in {long[0]}"
        elif tuple(fields) in seen:
            yield line, f"repeats line {seen[tuple(fields)]} ({short(cells['clean'])!r})"
        seen.setdefault(tuple(fields), line)


def _too_many(lines: int) -> BadInput:
    return BadInput(
        f"The table has {lines:,} lines.",
        f"At most {MOST_PAIRS:,} pairs are read.",
        "Keep a sample of them, or ask several times and compare.",
    )


def _lines(text: str) -> int:
    return max(text.count("\n"), text.count("\r")) + (not text.endswith(("\n", "\r")))

"""Labels of tokens of source code, against small texts that were labelled by hand."""

from __future__ import annotations

import numpy as np
import pytest

from interp.behaviors import code
from interp.errors import BadInput


def runs(text: str, name: str, value: int = 1) -> list[str]:
    """The longest parts of a text all of whose characters have a value."""
    values = code.label(text, [(i, i + 1) for i in range(len(text))]).values[name]
    found, current = list[str](), ""
    for character, one in zip(text, values, strict=True):
        if one == value:
            current += character
        elif current:
            found.append(current)
            current = ""
    return found + ([current] if current else [])


def each(text: str, name: str) -> list[int]:
    return code.label(text, [(i, i + 1) for i in range(len(text))]).values[name].tolist()


def words(text: str, *tokens: str) -> code.Labels:
    """Label a text that is cut into these tokens, which must be all of it."""
    assert "".join(tokens) == text
    ends = np.cumsum([len(token) for token in tokens]).tolist()
    return code.label(text, list(zip([0, *ends[:-1]], ends, strict=True)))


STRINGS = '''"""Doc (not open."""
x = 'a[' "b)"  # c]
def f(
    a="(",  # {
):
    r"""More
  lines"""
    """No docstring."""
    return f"{a + ')'}{len(a)}" \'q\'
'''


def test_strings_docstrings_and_comments() -> None:
    assert runs(STRINGS, "in_string") == [
        '"""Doc (not open."""',
        "'a['",
        '"b)"',
        '"("',
        'r"""More\n  lines"""',
        '"""No docstring."""',
        "f\"{a + ')'}{len(a)}\"",
        "'q'",
    ]
    assert runs(STRINGS, "in_docstring") == ['"""Doc (not open."""', 'r"""More\n  lines"""']
    assert runs(STRINGS, "in_comment") == ["# c]", "# {"]
    # No bracket of a string or comment counts, and no name or call inside a formatted string.
    assert runs(STRINGS, "bracket_depth") == ['(\n    a="(",  # {\n']
    assert runs(STRINGS, "expected_closing_bracket", 1) == ['(\n    a="(",  # {\n']
    assert runs(STRINGS, "in_call_arguments") == []
    assert runs(STRINGS, "is_builtin") == []
    assert runs(STRINGS, "in_signature") == ['(\n    a="(",  # {\n']


def test_brackets_nest_by_kind_and_count_after_the_character() -> None:
    text = "x = f(a[{1: (2,)}], [3])\n"
    assert each(text, "bracket_depth") == [
        *(0, 0, 0, 0, 0),  # x = f
        *(1, 1, 2, 3, 3, 3, 3, 4, 4, 4, 3, 2, 1, 1, 1, 2, 2, 1, 0),
        0,
    ]
    closers = "".join(")]}"[k - 1] if k else "." for k in each(text, "expected_closing_bracket"))
    assert closers == ".....))]}}}})))}])))]])" + ".."
    deep = "(" * 12 + "1" + ")" * 12
    assert max(each(deep, "bracket_depth")) == code.DEEPEST
    assert each(deep, "bracket_depth")[10:14] == [8, 8, 8, 8]


def test_signatures_arguments_and_decorators() -> None:
    text = (
        "@cache(size=(1, 2))  # note\n"
        "@a.b\n"
        "async def f(x, y=g(1), *, z: dict[str, int]) -> h(2):\n"
        "    class K(Base, metaclass=M(3)): pass\n"
        "    return (f)(x)(y), -(x), [m @ n](0), (lambda q: q)\n"
    )
    assert runs(text, "in_signature") == ["(x, y=g(1), *, z: dict[str, int]"]
    assert runs(text, "in_decorator") == ["@cache(size=(1, 2))", "@a.b"]
    assert runs(text, "in_call_arguments") == [
        "(size=(1, 2)",
        "(1",
        "(2",
        "(3",
        "(x",
        "(y",
        "(0",
    ]


def test_keywords_builtins_and_line_starts() -> None:
    text = (
        "import os\n\n"
        "if x is not None:\n"
        "    print(len(x), file=open(p)); y.print(id=1)\n"
        "    # note\n"
        "    match = int \\\n"
        "        + z\n"
    )
    assert runs(text, "is_keyword") == ["import", "if", "is", "not", "None"]
    assert runs(text, "is_builtin") == ["print", "len", "open", "int"]
    tokens = ["import", " os", "\n", "\n", "if", " x", " is not None:\n", "    ", "print"]
    rest = text[len("".join(tokens)) :]
    found = words(text, *tokens, rest[:1], rest[1:])
    assert found.values["line_start"].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1]
    starts = runs(text, "line_start")
    assert starts == ["i", "i", "p", "#", "m", "+"]


def test_targets_of_assignments() -> None:
    text = (
        "a.b.c = d[e] = (f, *g) = h\n"
        "i += 1\n"
        "j: int = 2\n"
        "for k, self.l in m: pass\n"
        "with n as o: print(p := 1)\n"
        "q = [r for s in t]\n"
        "u(v=1)\n"
        "def w(x=1): pass\n"
        "del y\n"
    )
    assert "".join(runs(text, "is_assignment_target")) == "cfgijklopqs"


def test_names_seen_before() -> None:
    text = "ab = cd(ab, 'cd', ef=ab.cd)\nabc = ef  # cd\nif if_:\n    if_\n"
    assert runs(text, "name_seen_before") == ["ab", "ab", "cd", "ef", "if_"]


def test_loops_tries_and_classes_are_bodies() -> None:
    text = (
        "for a in b:\n"
        "    c\n"
        "    while d: e\n"
        "else:\n"
        "    f\n"
        "try:\n"
        "    @g\n"
        "    class H(I):\n"
        "        j = 1\n"
        "        def k(self):\n"
        "            l\n"
        "except M:\n"
        "    n\n"
        "else:\n"
        "    o\n"
        "finally:\n"
        "    p\n"
        "[q for r in s]\n"
    )
    assert runs(text, "inside_loop") == ["    c\n    while d: e"]
    tried = text[text.index("    @g") : text.index("\nexcept")]
    assert runs(text, "inside_try") == [tried]
    body = text[text.index("        j") : text.index("\nexcept")]
    assert runs(text, "in_class_body") == [body]


def levels(text: str) -> list[set[int]]:
    """Which levels of indentation the characters of each line have."""
    values, found = each(text, "indentation"), list[set[int]]()
    at = 0
    for line in text.splitlines(keepends=True):
        found.append(set(values[at : at + len(line)]))
        at += len(line)
    return found


def test_indentation_of_continued_and_commented_lines() -> None:
    text = (
        "# top\n"
        "def f(a,\n"
        "                b):\n"
        "    # inner\n"
        "\n"
        "    if a:\n"
        "        return '''x\n"
        "y\n"
        "\n"
        "'''\n"
        "    # after\n"
        "# outer\n"
        "g = 1 + \\\n"
        "    2"
    )
    expected = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 1, 0, 0, 0]
    assert levels(text) == [{level} for level in expected]


def test_indentation_by_tabs() -> None:
    text = "if a:\n\tb\n\tif c:\n\t  d\n\t  # e\n\t# f\n\tg\n  # h\nif i:\n \tj\n"
    assert levels(text) == [{level} for level in (0, 1, 1, 2, 2, 1, 1, 0, 0, 1)]


def test_names_beyond_ascii_are_found_where_they_are() -> None:
    text = "é = 'ü→'; ñandú.größe = f(é, ж=int)  # →\nclass Ω(f('→'), é): é = 1\n"
    assert runs(text, "is_assignment_target") == ["é", "größe", "é"]
    assert runs(text, "in_call_arguments") == ["(é, ж=int", "('→'"]
    assert runs(text, "in_class_body") == ["é = 1"]
    assert runs(text, "is_builtin") == ["int"]
    assert runs(text, "name_seen_before") == ["é", "f", "é", "é"]
    # The name that the language keeps of a ligature is longer than what is written.
    assert runs("a.ﬁ = 1\n", "is_assignment_target") == ["ﬁ"]


def test_types_and_columns() -> None:
    text = "if x :  # y\n\ta = [1.5, 'b']\n"
    marks = dict(zip(code.TYPES, "_nNK1SCBO", strict=True))
    kinds = "".join(marks[code.TYPES[kind]] for kind in each(text, "token_type"))
    assert kinds == "KK_N_O__CCCn_N_O_B111O_SSSBn"
    assert each(text, "column") == [*range(12), *range(len(text) - 12)]


def test_carriage_returns_before_line_feeds() -> None:
    text = 'def f(x):\r\n    """Doc."""\r\n    return x  # y\r\n'
    assert runs(text, "in_docstring") == ['"""Doc."""']
    assert runs(text, "in_comment") == ["# y"]
    assert runs(text, "in_signature") == ["(x"]


def test_a_token_has_the_label_of_its_last_dark_character() -> None:
    text = "x = f('a', 1)  # b\n"
    found = words(text, "x", " =", " f(", "'a", "',", " ", "1)", "  #", " b\n")
    assert found.values["in_string"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert found.straddles["in_string"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert found.values["in_call_arguments"].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert found.straddles["in_call_arguments"].tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0]
    # The blank of " =" is no operator, and yet all that is dark in the token agrees.
    types = [code.TYPES[kind] for kind in found.values["token_type"]]
    assert types[1] == "operator"
    assert not found.straddles["token_type"][1]
    assert types[-1] == "comment"
    assert found.values["column"].tolist() == [0, 2, 5, 7, 9, 10, 12, 15, 17]


def test_a_token_of_blanks_and_one_over_two_lines() -> None:
    text = "if x:\n    y\nz\n"
    found = words(text, "if x:", "\n    ", "y\nz", "\n")
    assert found.straddles["token_type"].tolist() == [1, 1, 0, 0]
    assert found.straddles["column"].tolist() == [0, 1, 1, 0]
    assert found.values["line_start"].tolist() == [1, 0, 1, 0]


def test_special_tokens_have_no_label() -> None:
    found = code.label("x\n", [(0, 0), (0, 1), (1, 2), (2, 2)])
    assert found.known.tolist() == [False, True, True, False]
    assert found.usable("in_string").tolist() == [False, True, True, False]
    assert not any(values[[0, 3]].any() for values in found.values.values())
    nothing = code.label("", [(0, 0)])
    assert not nothing.known.any()
    assert set(nothing.values) == {one.name for one in code.PROPERTIES}
    blank = code.label(" \n", [(0, 1), (1, 2)])
    assert blank.values["token_type"].tolist() == [code.TYPES.index("between"), 1]


def test_every_property_is_in_the_table_and_in_its_range() -> None:
    found = code.label(STRINGS, [(i, i + 1) for i in range(len(STRINGS))])
    assert list(found.values) == list(found.straddles) == [one.name for one in code.PROPERTIES]
    for one in code.PROPERTIES:
        values = found.values[one.name]
        top = {"binary": 1, "count": len(STRINGS), "class": len(one.classes) - 1}[one.kind]
        assert values.min() >= 0, one
        assert values.max() <= top, one
        assert bool(one.classes) == (one.kind == "class")
        assert one.meaning.endswith(".")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n1]\n", "line 2"),
        ("x = 1\n  y = 2\n", "line 2"),
        ("a = 1\nb = '\n", "line 2"),
        ('"""\n', "line 1"),
        ("x = 1\ny\r= 2\n", "line 2"),
        ("x\0\n", "null"),
        ("x = '\ud800'\n", "surrogates"),
    ],
)
def test_what_is_no_python_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        code.label(text, [(0, 1)])


@pytest.mark.parametrize("span", [(-1, 1), (2, 1), (0, 7)])
def test_spans_outside_the_text_are_refused(span: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="spans"):
        code.label("x = 1\n", [span])


def test_odd_escapes_are_no_warnings_of_ours() -> None:
    assert runs(r"x = '\d'", "in_string") == [r"'\d'"]


# --- matched tokens ----------------------------------------------------------------------------


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A label that the id tells almost always, ids, and the ids before."""
    rng = np.random.default_rng(seed)
    ids = rng.zipf(1.5, 4_000) % 50
    label = rng.random(4_000) < np.where(ids < 3, 0.9, 0.1)
    return label, ids, rng.integers(0, 4, 4_000)


def test_matched_tokens_are_alike_and_as_many() -> None:
    label, ids, previous = drawn(1)
    found = code.match(label, ids, seed=3)
    assert label[found.positives].all()
    assert not label[found.negatives].any()
    assert (ids[found.positives] == ids[found.negatives]).all()
    both = [min((label & (ids == k)).sum(), (~label & (ids == k)).sum()) for k in range(50)]
    assert len(found.positives) == sum(both)
    assert len(set(found.positives) | set(found.negatives)) == 2 * sum(both)
    assert found.unpaired == (label.sum() - sum(both), (~label).sum() - sum(both))
    # Before, the id alone tells the label; after, it tells nothing.
    assert (label == (ids < 3)).mean() > 0.85
    here = np.concatenate([found.positives, found.negatives])
    assert (label[here] == (ids[here] < 3)).mean() == 0.5
    stricter = code.match(label, ids, seed=3, previous=previous)
    assert (previous[stricter.positives] == previous[stricter.negatives]).all()
    assert (previous[found.positives] != previous[found.negatives]).any()
    assert 0 < len(stricter.positives) < len(found.positives)


def test_matching_is_deterministic_and_random() -> None:
    label, ids, _ = drawn(2)
    one, same, other = (code.match(label, ids, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(one.positives, same.positives)
    assert np.array_equal(one.negatives, same.negatives)
    assert one.unpaired == other.unpaired
    assert set(one.positives) != set(other.positives)
    few = code.match(label, ids, seed=5, usable=np.arange(len(ids)) < 100)
    assert max(*few.positives, *few.negatives) < 100


def test_nothing_to_match() -> None:
    found = code.match(np.array([True, False]), np.array([1, 2]), seed=0)
    assert found.unpaired == (1, 1)
    assert not len(found.positives)


def test_documents_are_on_one_side() -> None:
    documents = np.repeat(np.arange(10) * 7, [1, 50, 3, 4, 5, 60, 7, 8, 9, 10])
    side = code.held_out(documents.tolist(), seed=1)
    assert {len(set(side[documents == k])) for k in documents} == {1}
    assert len(set(documents[side])) == 2
    assert np.array_equal(side, code.held_out(documents.tolist(), seed=1))
    assert len({tuple(code.held_out(documents.tolist(), seed=k)) for k in range(9)}) > 3
    with pytest.raises(BadInput, match="documents"):
        code.held_out([3, 3, 3], seed=1)
    with pytest.raises(BadInput, match="documents"):
        code.held_out([1, 2], seed=1, share=1.0)

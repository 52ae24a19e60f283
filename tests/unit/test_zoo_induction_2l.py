"""Pairs and rows of ``induction-2l``: what is copied, and that there is one right answer."""

from __future__ import annotations

import numpy as np

from interp.behaviors import repeats
from zoo import _induction2_rows as rows

PAIRS = repeats.repeated_segment(400)
FEATURES = repeats.BEHAVIORS["repeated-segment"].features


def test_pairs_are_different_and_fewer_are_a_prefix() -> None:
    assert len({pair.clean for pair in PAIRS}) == len(PAIRS) == 400
    assert repeats.repeated_segment(7) == PAIRS[:7]
    assert {len(pair.clean) for pair in PAIRS} == {repeats.LENGTH}


def test_answer_followed_the_only_earlier_copy_and_foil_followed_another_letter() -> None:
    for pair in PAIRS:
        cue = pair.clean[-1]
        assert pair.clean.count(cue) == 2
        assert pair.clean[pair.clean.index(cue) + 1] == pair.answer
        foil = pair.clean.index(pair.foil)
        assert pair.foil not in (pair.answer, cue)
        assert pair.clean[foil - 1] != cue
        assert set(pair.clean + pair.corrupted) <= set(repeats.LETTERS)


def test_corrupted_prompt_has_no_earlier_copy_of_the_last_letter() -> None:
    for pair in PAIRS:
        changed = [i for i, c in enumerate(pair.clean) if c != pair.corrupted[i]]
        assert changed == [pair.clean.index(pair.clean[-1])]
        assert pair.corrupted.count(pair.clean[-1]) == 1
        assert pair.corrupted[changed[0]] not in pair.clean
        assert pair.foil in pair.corrupted


def test_features_are_those_of_the_clean_prompt() -> None:
    assert len(repeats.LETTERS) == len(set(repeats.LETTERS)) == 64
    for pair in PAIRS:
        values = {name: of(pair) for name, of in FEATURES.items()}
        apart = values["distance between the copies"]
        again = values["letters repeated so far"]
        assert repeats.DISTANCES[0] <= apart <= repeats.DISTANCES[1]
        assert 2 <= again < apart
        assert pair.clean[-again:] == pair.clean[-again - apart : -apart]
        assert repeats.LETTERS[values["last letter"]] == pair.clean[-1]
        assert repeats.LETTERS[values["letter before the last"]] == pair.clean[-2]
        assert repeats.LETTERS[values["letter after the earlier copy"]] == pair.answer


def test_rows_repeat_segments_at_once() -> None:
    drawn = rows.draw(np.random.default_rng(0), 200, rows.chain())
    assert drawn.tokens.shape == drawn.copied.shape == (200, rows.LENGTH + 1)
    assert (drawn.tokens[:, 0] == 0).all()
    assert drawn.tokens[:, 1:].min() >= 1
    assert 0.3 < drawn.copied.mean() < 0.36
    whole = 0
    for row, copied in zip(drawn.tokens, drawn.copied, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([copied, [False]]).astype(int)))
        for start, end in edges.reshape(-1, 2):
            # The segment and its copy are on both sides of the place before the first copied one.
            period = end - start + 1
            if end < rows.LENGTH:
                whole += 1
                assert rows.PERIODS[0] <= period <= rows.PERIODS[1]
                assert (row[start : end + 1] == row[start - period : end + 1 - period]).all()
    assert whole > 200


def test_half_of_the_rows_follow_the_chain() -> None:
    following = rows.chain()
    assert np.allclose(following.sum(1), 1)
    drawn = rows.draw(np.random.default_rng(1), 400, following)
    likely = following[drawn.tokens[:, 1:-1] - 1, drawn.tokens[:, 2:] - 1]
    assert drawn.chained.sum() == 200
    # A letter of the chain is likely by it, a uniform one is 1 in 64.
    assert likely[drawn.chained].mean() > 5 * likely[~drawn.chained].mean()


def test_doubled_rows_have_different_letters_twice() -> None:
    tokens = rows.doubled(np.random.default_rng(2), 30, 12)
    assert tokens.shape == (30, 25)
    assert (tokens[:, 1:13] == tokens[:, 13:]).all()
    assert all(len(set(row[1:13].tolist())) == 12 for row in tokens)

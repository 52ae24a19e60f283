"""Static checks of a hypothesis' features and rewrites: what they are made of."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from interp import expressions
from interp.errors import BadInput, UnknownName
from interp.explanations.hypothesis import ANY, EXACT, NAME, Hypothesis, Rewrite
from interp.explanations.terms import check_term, parse_terms
from interp.expressions.tree import bare_names
from interp.models.info import ModelInfo


def check_features(hypothesis: Hypothesis, columns: Collection[str]) -> None:
    """Refuse features that cannot be computed.

    Raises:
        BadInput: An expression cannot be read, a name cannot be one, or features need each other.
        UnknownName: An expression uses a name that neither features nor inputs have.
    """
    needs: dict[str, tuple[str, ...]] = {}
    for name, feature in hypothesis.features.items():
        if not NAME.fullmatch(name) or name in (EXACT, ANY):
            raise BadInput(
                f"A feature is called {name!r}.",
                f"Names are letters, digits and _, 41 at most; {EXACT} and {ANY} are taken.",
                "Give it another name.",
            )
        said = f"The feature {name!r}"
        needs[name] = _features_in(said, feature.expr, hypothesis, columns)
    cycle = _cycle(needs)
    if cycle:
        raise BadInput(
            f"The feature {cycle[0]!r} was to be computed.",
            f"It needs itself: {' → '.join(cycle)}.",
            "Write one of these without the other.",
        )


def check_rewrites(hypothesis: Hypothesis, model: ModelInfo, columns: Collection[str]) -> None:
    """Refuse rewrites of what is no single term, of one term twice, or by no direction.

    Raises:
        BadInput: A rewrite cannot be made.
        UnknownName: The model lacks its term, or its expression uses an unknown name.
    """
    seen: set[str] = set()
    for rewrite in hypothesis.rewrites:
        said = f"The rewrite of {rewrite.site!r}"
        _check_term(said, rewrite, model)
        term = str(parse_terms(rewrite.site)[0])
        if term in seen:
            raise BadInput(
                f"{said} was given twice.",
                "What its parts are would not be clear.",
                "Keep one rewrite of each term.",
            )
        seen.add(term)
        if rewrite.split.phi:
            _features_in(f"{said} by phi", rewrite.split.phi, hypothesis, columns)
        else:
            _check_direction(said, rewrite.split.direction, model)


def _check_term(said: str, rewrite: Rewrite, model: ModelInfo) -> None:
    terms = parse_terms(rewrite.site)
    if len(terms) != 1 or terms[0].part:
        raise BadInput(
            f"{said} was given.",
            "A rewrite splits one term of the model into two.",
            "Name one whole term, a0.h0 for instance.",
        )
    check_term(model, terms[0])


def _check_direction(said: str, direction: Iterable[float], model: ModelInfo) -> None:
    numbers = list(direction)
    finite = all(map(math.isfinite, numbers))
    if len(numbers) != model.d_model or not finite or not any(numbers):
        found = f"The direction has {len(numbers)} numbers; the model is {model.d_model} wide."
        if len(numbers) == model.d_model:
            found = "All its numbers are 0." if finite else "Some of its numbers are not finite."
        raise BadInput(
            f"{said} along a direction was given.",
            found,
            f"Give {model.d_model} finite numbers, not all 0.",
        )


def _features_in(
    said: str, expression: str, hypothesis: Hypothesis, columns: Collection[str]
) -> tuple[str, ...]:
    """Read an expression, check the names in it, and return the features among them."""
    try:
        read = expressions.parse(expression)
    except BadInput as error:
        asked = f"{said}: {error.asked}"
        raise type(error)(asked, error.found, error.works) from None
    bare = bare_names(read.tree)
    for name in sorted(read.names_used) if columns else ():
        # column("name") is never a feature, even where one has its name.
        known = {*hypothesis.features, *columns} if name in bare else set(columns)
        if name not in known:
            what = "feature or column" if name in bare else "column"
            error = UnknownName.of(what, name, known)
            raise UnknownName(f"{said} uses {name!r}. {error.asked}", error.found, error.works)
    return tuple(sorted(bare & hypothesis.features.keys()))


def _cycle(needs: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return names that need each other in a ring, the first one again at the end; or nothing."""
    done: set[str] = set()
    for start in needs:
        # A stack of iterators, not recursion: a chain may be as long as there are features.
        path, waiting = [start], [iter(needs[start])]
        while path:
            name = next(waiting[-1], None)
            if name is None:
                done.add(path.pop())
                waiting.pop()
            elif name in path:
                return (*path[path.index(name) :], name)
            elif name not in done:
                path.append(name)
                waiting.append(iter(needs[name]))
    return ()

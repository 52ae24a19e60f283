"""Features of inputs, written as expressions that anybody may type.

    evaluate({"even": "count(OPEN) == count(CLOSE)"}, inputs)

An expression is made of numbers, names, ``+ - * / // %``, comparisons, ``& | ~`` and calls of a
fixed library: no attributes, subscripts, powers, strings (but for ``column("any name")``) or
anything else of Python. It is read by a grammar of our own, capped in length, nesting, size and
memory, and evaluated on whole arrays. Values are bool, int64 or float64, one an input in the end.
"""

from interp.expressions.completion import Completion, complete
from interp.expressions.evaluation import evaluate, evaluate_one
from interp.expressions.library import FUNCTIONS, Function
from interp.expressions.parser import parse
from interp.expressions.tree import Expression
from interp.expressions.values import Inputs

__all__ = [
    "FUNCTIONS",
    "Completion",
    "Expression",
    "Function",
    "Inputs",
    "complete",
    "evaluate",
    "evaluate_one",
    "parse",
]

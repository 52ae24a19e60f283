"""The command line.

    python -m interp run SPEC.json     ask a question here; SPEC may be - for standard input
    python -m interp list              records, newest first
    python -m interp show ID           one record as JSON
    python -m interp models [NAME]     models that can be asked, with size and facts
    python -m interp kinds             kinds of analysis, each with an example

A user's error is one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import interp
from interp import analyses
from interp.answers import as_json, get
from interp.errors import BadInput, InterpError
from interp.models import catalogue, facts
from interp.models.info import BYTES, ModelInfo
from interp.store import State, Store, open_store
from interp.worked import add_worked

_FEWEST_FACTS = 4


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m interp", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ask = commands.add_parser("run", help="ask a question here and keep its record")
    ask.add_argument("spec", help="a file with a spec as JSON, or -")
    ask.add_argument("--again", action="store_true", help="compute it anew")
    commands.add_parser("list", help="list records, newest first")
    show = commands.add_parser("show", help="print one record as JSON")
    show.add_argument("id")
    models = commands.add_parser("models", help="list models, with size and facts")
    models.add_argument("name", nargs="?", help="one model, with all that is known of it")
    commands.add_parser("kinds", help="list kinds of analysis, each with an example")
    args = parser.parse_args(argv)
    try:
        return _dispatch(args)
    except InterpError as error:
        print(f"because: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has had enough (``| head``); what is left must not be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(args: argparse.Namespace) -> int:
    if args.command == "run":
        return _run(args.spec, again=args.again)
    if args.command == "list":
        for record in _store().records.list():
            print(f"{record.id}  {record.state:10}  {record.kind:20}  {record.title}")
    elif args.command == "show":
        store = _store()
        print(json.dumps(as_json(store, get(store, args.id)), indent=2))
    elif args.command == "models":
        for name in [args.name] if args.name else catalogue.names():
            _list_model(name, whole=bool(args.name))
    else:
        for kind in interp.kinds():
            print(f"{kind:22}  {analyses.get(kind).example.canonical}")
    return 0


def _list_model(name: str, *, whole: bool) -> None:
    """Print a model's size, what it is, its other weights and its facts, promised ones first.

    Promised ones are printed in any case; the others if they are few, or ``whole``.
    """
    info, card = catalogue.info(name), catalogue.card(name).facts
    print(f"{name:26}  {_size(info):>9}  {card['parameters']:>13,} parameters  {card['summary']}")
    others = catalogue.snapshots(name)
    if others:
        print(f"    checkpoints: {', '.join(f'{name}@{one}' for one in others)}")
    ordered = sorted(card["facts"], key=lambda fact: not facts.is_promise(fact))
    shown = ordered[: max(_FEWEST_FACTS, sum(map(facts.is_promise, ordered)))]
    for fact in ordered if whole else shown:
        print(f"    {facts.in_words(fact)}")
    if len(shown) < len(ordered) and not whole:
        print(f"    and {len(ordered) - len(shown)} more: python -m interp models {name}")


def _size(info: ModelInfo) -> str:
    """Say how large the weights of a model are, those of its checkpoints not counted."""
    values = info.n_parameters * BYTES[info.dtype]
    size = info.weights_file.stat().st_size if info.source == "bundled" else values
    return f"{size / 1e6:.2f} MB"


def _store() -> Store:
    """Open the store with the worked records in it, as the app shows it."""
    store = open_store()
    add_worked(store)
    return store


def _run(path: str, *, again: bool) -> int:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
    except OSError as error:
        raise BadInput(f"The file {path!r} was to be read.", f"{error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The file {path!r} was to be read.", "It is not UTF-8.") from error
    answer = interp.run(text, again=again)
    print(f"{answer.id}  {answer.state}")
    error = answer.record.error
    if answer.state == State.FAILED and error:
        said = " ".join(error[k] for k in ("asked", "found", "works") if error.get(k))
        print(f"because: {said}", file=sys.stderr)
        return 1 if "fault" in error else 2
    print(answer.verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main())

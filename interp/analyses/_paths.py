"""Paths in words, and the chain of senders that was followed from one answer to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interp.figures import paths
from interp.figures.named import NamedFigure
from interp.methods.paths import LOGITS, SLOTS
from interp.scores import Anchor, Interval, Score

DRAWN = 3
"""Senders of the last step that a chain shows."""


@dataclass(frozen=True)
class Sender:
    """A sender of an answer.

    Attributes:
        name: What it is called.
        inputs: The receivers that it is itself.
        reaches: The receivers of the answer that it is upstream of.
        effect: Its effect.
        told: The effect with its interval.
    """

    name: str
    inputs: tuple[str, ...]
    reaches: tuple[str, ...]
    effect: float
    told: str


@dataclass(frozen=True)
class Link:
    """One answer of a chain: who received, how, and who sent, the strongest first."""

    receivers: tuple[str, ...]
    via: str
    senders: tuple[Sender, ...]


def reader(receiver: str) -> str:
    """Say what a receiver is: ``the keys of L1H0``, ``MLP 3``, ``the logits``."""
    if receiver == LOGITS:
        return "the logits"
    place, _, rest = receiver.partition(".")
    slot, _, pos = rest.partition("@")
    at = f" at position {pos}" if pos else ""
    return (f"the {SLOTS[slot]} of {place}" if slot in SLOTS else f"MLP {place[1:]}") + at


def readers(receivers: Sequence[str]) -> str:
    """Say what some receivers are; of many the first ones."""
    said = [reader(one) for one in receivers[:4]]
    if len(receivers) > 4:
        said.append(f"{len(receivers) - 4} more")
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def way(via: str) -> str:
    """Say which paths lead from a sender to a receiver."""
    return "directly" if via == "direct" else "directly or through MLPs"


def two(value: float) -> str:
    """Write two decimals, without a minus before zero."""
    return decimals(value, 2)


def decimals(value: float, n: int) -> str:
    """Write so many decimals, without a minus before zero."""
    return f"{round(value, n) + 0.0:.{n}f}"


def worth(best: Score, name: str, n: int) -> str:
    """Say what the best of ``n`` pairs' senders is worth on inputs that did not choose it."""
    if isinstance(best.held_out, Anchor):
        spread = best.interval
        given = isinstance(spread, Interval)
        bounds = f" [{two(spread.low)}, {two(spread.high)}]" if given else ""
        return (
            f"Chosen on {best.n} search pairs, {name} scores {two(best.held_out.value)}{bounds} "
            f"{best.held_out.name}."
        )
    if n < 3:
        return f"{n} pair{'s' if n > 1 else ''}: no interval, and none held out."
    return f"No pair is held out: {best.held_out.reason}."


def inputs_of(row: int, cols: Sequence[str], col: int, key_heads: int) -> list[tuple[str, str]]:
    """List what a sender of a map itself reads: in words, and as a receiver.

    Heads may share keys and values: of these there are ``key_heads`` a layer.
    """
    if cols[col] == "embed":
        return []
    if cols[col] == "MLP":
        return [(f"MLP {row}", f"L{row}.mlp_in")]
    heads = sum(name.startswith("H") for name in cols)
    key = col * key_heads // heads
    shared = "" if key_heads == heads else f" (key head {key})"
    each = {"q": (col, ""), "k": (key, shared), "v": (key, shared)}
    return [
        (f"L{row}H{col}'s {SLOTS[slot]}{more}", f"L{row}H{head}.{slot}")
        for slot, (head, more) in each.items()
    ]


def chain(links: Sequence[Link], n_layers: int, least: float, verb: str) -> NamedFigure:
    """Draw who wrote into whom over several answers.

    Args:
        links: The answers, oldest first.
        n_layers: Layers of the model.
        least: Effect below which a sender of the last answer is not shown.
        verb: What a share of the gap was: lost or brought back.
    """
    names, steps = met(links, least)
    edges = {
        (one.sender.name, one.receiver, one.link.via): _edge(
            one.link, one.sender, one.receiver, one.owner
        )
        for one in steps
    }
    nodes = [paths.Node(one, *_level(one, n_layers)) for one in names]
    return NamedFigure(
        "chain",
        "The chain so far",
        f"A line leads from a sender up to what reads it, with the share of the gap {verb} when "
        "that alone is sent; a negative one pushes the other way. Several receivers are sent to in "
        "one run: their lines say jointly, and share one number. Each step is an experiment of "
        "its own: the shares of several steps do not multiply. Of the last answer the strongest "
        f"senders are shown, at most {DRAWN}.",
        paths.graph(nodes, list(edges.values())),
    )


@dataclass(frozen=True)
class Met:
    """A sender that wrote into a receiver of an answer, and whose receiver it was."""

    link: Link
    sender: Sender
    receiver: str
    owner: str


def met(links: Sequence[Link], least: float) -> tuple[list[str], list[Met]]:
    """List the parts of a chain, and who wrote into whom: of the last answer the strongest."""
    known: dict[str, str] = {}
    names = [_owner(known, one) for one in links[0].receivers]
    found: list[Met] = []
    for i, link in enumerate(links):
        if i + 1 < len(links):
            senders = _followed(link, links[i + 1].receivers, known)
        else:
            most = max([abs(one.effect) for one in link.senders], default=0.0)
            strong = [one for one in link.senders if abs(one.effect) >= max(least, most / 2)]
            senders = strong[:DRAWN]
        for receiver in link.receivers:
            reach = [one for one in senders if receiver in one.reaches]
            found += [Met(link, one, receiver, _owner(known, receiver)) for one in reach]
        names += [_owner(known, receiver) for receiver in link.receivers]
        names += [sender.name for sender in senders]
    return list(dict.fromkeys(names)), found


def _followed(link: Link, receivers: Sequence[str], known: dict[str, str]) -> list[Sender]:
    """List the senders whose inputs the next answer asks for, and note which input is whose.

    Heads may share keys and values: those are followed as the strongest of these heads.
    """
    found: list[Sender] = []
    for receiver in (one.partition("@")[0] for one in receivers):
        owner = next((one for one in link.senders if receiver in one.inputs), None)
        if owner is not None:
            known[receiver] = owner.name
            found += [owner] if owner not in found else []
    return found


def _owner(known: dict[str, str], receiver: str) -> str:
    """Name the component that a receiver belongs to as senders are named."""
    place, _, slot = receiver.partition("@")[0].partition(".")
    named = f"MLP {place[1:]}" if slot.startswith("mlp") else place
    return known.get(receiver.partition("@")[0], named)


def _level(owner: str, n_layers: int) -> tuple[int, str]:
    """Return the height of a component and the name of its row."""
    if owner == LOGITS:
        return 2 * n_layers, LOGITS
    if owner.startswith("MLP"):
        return 2 * int(owner[4:]) + 1, f"L{owner[4:]} MLP"
    if owner.startswith("L"):
        layer = owner[1:].partition("H")[0]
        return 2 * int(layer), f"L{layer}"
    return -1, "embed"


def _edge(link: Link, sender: Sender, receiver: str, owner: str) -> paths.Edge:
    slot = SLOTS.get(receiver.partition(".")[2].partition("@")[0], "")
    label = f"{slot} {two(sender.effect)}".strip()
    more = len(link.receivers) - 1
    jointly = f", jointly with {more} more: this receiver alone may do nothing" if more else ""
    return paths.Edge(
        sender=sender.name,
        receiver=owner,
        label=label + (" (MLPs too)" if link.via == "mlps" else "") + (" jointly" if more else ""),
        effect=sender.effect,
        hover=f"{sender.name} {way(link.via)} into {reader(receiver)}{jointly}: {sender.told}",
    )

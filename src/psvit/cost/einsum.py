"""MACs of an einsum, contracted from left to right as torch does."""

from __future__ import annotations

from math import prod

from psvit.cost.tensors import Shape


def einsum_macs(equation: str, shapes: list[Shape]) -> int:
    """Sum over the pairwise contractions of the product of all sizes that take part.

    ``shapes`` are those of the operands. A single operand is moved or summed: 0. Letters that
    only one of two operands has, and that neither the output nor a later operand needs, are
    summed before the product and so are not part of it.

    >>> einsum_macs("bnc,bmc->bnm", [(2, 5, 3), (2, 7, 3)])
    210
    """
    left, _, output = equation.replace(" ", "").partition("->")
    explicit = "->" in equation
    terms = left.split(",")
    sizes: dict[str, int] = {}
    letters: list[set[str]] = []
    for named, shape in zip(einsum_letters(equation, shapes), shapes, strict=True):
        letters.append(set(named))
        for letter, size in zip(named, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    wanted = _output(output, explicit, terms, sizes)
    total, done = 0, letters[0]
    for position in range(1, len(letters)):
        later = wanted.union(*letters[position + 1 :])
        left_set, right_set = done, letters[position]
        shared = left_set & right_set
        part = (left_set | right_set) & (later | shared)
        total += prod(sizes[letter] for letter in part)
        done = part & later
    return total


def einsum_letters(equation: str, shapes: list[Shape]) -> list[list[str]]:
    """The letter of each axis of each operand.

    >>> einsum_letters("...c,cd->...d", [(2, 5, 3), (3, 4)])
    [['...2', '...1', 'c'], ['c', 'd']]
    """
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    return [_letters(term, len(shape)) for term, shape in zip(terms, shapes, strict=True)]


def _letters(term: str, rank: int) -> list[str]:
    """The letters of each axis; those of an ellipsis are numbered from the right."""
    before, dots, after = term.partition("...")
    if not dots:
        return list(term)
    hidden = rank - len(before) - len(after)
    return [*before, *(f"...{hidden - i}" for i in range(hidden)), *after]


def _output(output: str, explicit: bool, terms: list[str], sizes: dict[str, int]) -> set[str]:
    hidden = {letter for letter in sizes if letter.startswith("...")}
    if explicit:
        return set(output.replace("...", "")) | (hidden if "..." in output else set())
    everything = "".join(terms)
    return {letter for letter in sizes if everything.count(letter) == 1} | hidden

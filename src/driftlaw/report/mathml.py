"""The LaTeX of the theory's formulas as MathML, which browsers draw without script, fonts or requests.

Only the macros that :mod:`driftlaw.theory.bounds` uses are known; any other raises, so that a new formula cannot appear
half translated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}_^]|\d+(?:\.\d+)?|'|[A-Za-z]|\S")
_LETTERS = {
    "alpha": "α",
    "beta": "β",
    "delta": "δ",
    "eta": "η",
    "varepsilon": "ε",
    "chi": "χ",
    "tau": "τ",
    "Pi": "Π",
    "Gamma": "Γ",
    "kappa": "κ",
    "infty": "∞",
}
_OPERATORS = {
    "le": "≤",
    "ge": "≥",
    "Rightarrow": "⇒",
    "asymp": "≍",
    "sum": "∑",
    "int": "∫",
    "cdot": "·",
    "|": "‖",
    "sup": "sup",
    "limsup": "lim sup",
    "min": "min",
    "max": "max",
    "ne": "≠",
    "to": "→",
}
_SPACES = {",": "0.17em", ";": "0.28em", "quad": "1em", " ": "0.25em"}
_ACCENTS = {"hat": ("mover", "^"), "underline": ("munder", "_")}
_IGNORED = {"textstyle", "displaystyle"}


def mathml(latex: str) -> Markup:
    r"""A formula as a ``<math>`` element.

    Args:
        latex: without delimiters.

    Raises:
        ValueError: a macro that is not known, or braces that do not match.

    Example:
        >>> str(mathml(r"\tfrac12 \hat p^2"))[:30]
        '<math><mfrac><mn>1</mn><mn>2</'
    """
    tokens = _Tokens(latex)
    body = "".join(_row(tokens))
    if tokens.peek() is not None:
        raise ValueError(f"a brace closes that was not opened in {latex!r}")
    return Markup(f"<math>{body}</math>")


class _Tokens:
    def __init__(self, latex: str) -> None:
        self._latex, self._found, self._at = latex, _TOKEN.findall(latex), 0

    def peek(self) -> str | None:
        return self._found[self._at] if self._at < len(self._found) else None

    def next(self) -> str:
        token = self.peek()
        if token is None:
            raise ValueError(f"{self._latex!r} ends too early")
        self._at += 1
        return token

    def digit(self) -> str:
        r"""One argument of \tfrac: a single digit of a number, or a group."""
        token = self.peek()
        if token is not None and token.isdigit() and len(token) > 1:
            self._found[self._at] = token[1:]
            return f"<mn>{token[0]}</mn>"
        return _atom(self)


def _row(tokens: _Tokens) -> Iterator[str]:
    while tokens.peek() not in {None, "}"}:
        base = _atom(tokens)
        scripts: dict[str, str] = {}
        while (mark := tokens.peek()) in {"_", "^", "'"}:
            tokens.next()
            scripts["^" if mark == "'" else str(mark)] = "<mo>′</mo>" if mark == "'" else _atom(tokens)
        low, high = scripts.get("_"), scripts.get("^")
        if low and high:
            yield f"<msubsup>{base}{low}{high}</msubsup>"
        elif low or high:
            tag = "msub" if low else "msup"
            yield f"<{tag}>{base}{low or high}</{tag}>"
        else:
            yield base


def _atom(tokens: _Tokens) -> str:
    token = tokens.next()
    if token == "{":
        body = "".join(_row(tokens))
        if tokens.next() != "}":
            raise ValueError("a brace is not closed")
        return f"<mrow>{body}</mrow>"
    if not token.startswith("\\"):
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{token}</mi>"
        shown = {"-": "−", "*": "∗"}.get(token, str(escape(token)))
        stretch = ' stretchy="false"' if token in "()|" else ""
        return f"<mo{stretch}>{shown}</mo>"
    name = token[1:]
    if name in _LETTERS:
        return f"<mi>{_LETTERS[name]}</mi>"
    if name in _OPERATORS:
        return f"<mo>{_OPERATORS[name]}</mo>"
    if name in _SPACES:
        return f'<mspace width="{_SPACES[name]}"></mspace>'
    if name in _ACCENTS:
        tag, accent = _ACCENTS[name]
        return f'<{tag} {"accent" if tag == "mover" else "accentunder"}="true">{_atom(tokens)}<mo>{accent}</mo></{tag}>'
    if name in {"tfrac", "frac"}:
        return f"<mfrac>{tokens.digit()}{tokens.digit()}</mfrac>"
    if name == "sqrt":
        return f"<msqrt>{_atom(tokens)}</msqrt>"
    if name == "mathrm":
        letters = re.sub(r"<[^>]*>", "", _atom(tokens))
        return f'<mi mathvariant="normal">{letters}</mi>'
    if name in _IGNORED:
        return "<mrow></mrow>"
    raise ValueError(f"the macro {token!r} is not known")

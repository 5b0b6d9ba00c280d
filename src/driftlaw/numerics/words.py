"""Numbers in words: the one place where values, intervals, shares, p-values, counts and durations become text.

Terminals, messages and records get plain ASCII (:func:`plain`); pages get a real minus sign and powers of ten
(:func:`number`). A number that does not exist is a dash in a table; the sentence beside it says what would give it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

#: Stands for a number that does not exist.
NONE = "–"
#: p-values below this are not told apart: the approximations behind them do not reach further.
SMALLEST_P = 1e-6
#: Between groups of three digits.
_THIN = "\u202f"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain(x: float, digits: int = 3) -> str:
    """A number in ASCII with `digits` significant digits.

    Example:
        >>> plain(0.000012345), plain(29.2), plain(float("inf")), plain(float("nan"))
        ('1.23e-05', '29.2', 'infinite', 'unknown')
    """
    if math.isnan(x):
        return "unknown"
    if math.isinf(x):
        return "infinite" if x > 0 else "minus infinite"
    text = f"{x:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(x) < 1e6 else text


def signed(x: float, digits: int = 2) -> str:
    """A difference in ASCII, with its sign.

    Example:
        >>> signed(0.1234), signed(-441.0)
        ('+0.12', '-440')
    """
    return plain(x, digits) if math.isnan(x) or x <= 0 else f"+{plain(x, digits)}"


def number(x: float, digits: int = 3) -> str:
    """A number for a page: `digits` significant digits, a real minus sign and a power of ten where it is needed.

    Example:
        >>> number(-0.000012345), number(29.2), number(float("inf")), number(float("nan"))
        ('−1.23 × 10⁻⁵', '29.2', 'infinite', '–')
    """
    if math.isnan(x):
        return NONE
    if math.isinf(x):
        return "infinite" if x > 0 else "minus infinite"
    if x == 0:
        return "0"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    if -4 <= int(exponent) < 6:
        text = f"{x:.{max(0, digits - 1 - int(exponent))}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        trimmed = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{trimmed} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return text.replace("-", "−")


def interval(value: float, low: float, high: float, form: Callable[[float], str] = plain) -> str:
    """A value with the ends of its interval; the value alone where it is exact, infinite or does not exist.

    Example:
        >>> interval(0.5, 0.41, 0.59), interval(2.0, 2.0, 2.0)
        ('0.5 [0.41, 0.59]', '2')
    """
    if math.isnan(value) or math.isinf(value) or math.isnan(low) or low == high:
        return form(value)
    return f"{form(value)} [{form(low)}, {form(high)}]"


def percent(x: float) -> str:
    """A signed change in per cent, or the word for a number that is none."""
    return f"{x:+.1%}".replace("-", "−").replace("%", " %") if math.isfinite(x) else number(x)


def share(x: float) -> str:
    """A share in per cent; never 0 % or 100 % for one that only rounds to it.

    Example:
        >>> share(0.26), share(0.004), share(0.998), share(0.0)
        ('26%', '0.40%', '99.80%', '0%')
    """
    if math.isnan(x):
        return "unknown"
    if 0 < x < 1e-4:
        return "under 0.01%"
    if 0 < x < 0.01:
        return f"{x:.2%}"
    if 0.995 <= x < 1:
        return f"{x:.2%}" if x < 0.99995 else "over 99.99%"
    return f"{x:.0%}"


def p_value(p: float) -> str:
    """A p-value as it may be printed: never 0, and no smaller than its approximation can vouch for.

    Example:
        >>> p_value(0.0), p_value(1e-238), p_value(0.0312)
        ('below 1e-6', 'below 1e-6', '0.031')
    """
    if math.isnan(p):
        return "unknown"
    return f"below {SMALLEST_P:.0e}".replace("e-0", "e-") if p < SMALLEST_P else f"{p:.2g}"


def count(n: float) -> str:
    """A count with its digits in groups of three.

    Example:
        >>> count(1234567) == "1\u202f234\u202f567"
        True
    """
    return f"{round(n):,}".replace(",", _THIN)


def duration(seconds: float, digits: int = 3) -> str:
    """Seconds, minutes or hours, whichever reads best.

    Example:
        >>> duration(4.123), duration(600), duration(36000)
        ('4.12 s', '10 min', '10 h')
    """
    x, unit = (seconds, "s") if seconds < 120 else (seconds / 60, "min") if seconds < 7200 else (seconds / 3600, "h")
    return f"{x:.{digits}g} {unit}" if x < 10**digits else f"{count(x)} {unit}"


def mebibytes(x: float) -> str:
    """A size in MiB.

    Example:
        >>> mebibytes(504.2)
        '504 MiB'
    """
    return f"{count(x)} MiB"


def some(parts: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are.

    Example:
        >>> some(["a", "b", "c", "d"], 2)
        'a, b and 2 more'
    """
    listed = list(parts)
    if len(listed) <= most:
        return ", ".join(listed)
    return f"{', '.join(listed[:most])} and {len(listed) - most} more"


def ranges(indices: Iterable[int]) -> str:
    """Generations as a reader lists them.

    Example:
        >>> ranges([1, 2, 3, 5])
        '1–3, 5'
    """
    runs: list[list[int]] = []
    for i in sorted(set(indices)):
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def generations(indices: Iterable[int]) -> str:
    """``generation 3`` or ``generations 1–3, 5``."""
    found = sorted(set(indices))
    return f"generation{'s' if len(found) != 1 else ''} {ranges(found)}"


def at_generations(indices: Iterable[int], last: int) -> str:
    """``at every generation`` or ``at generations 1–3, 5``."""
    found = sorted(set(indices))
    return "at every generation" if len(found) == last > 1 else f"at {generations(found)}"

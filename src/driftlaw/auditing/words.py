"""An audit in words: what was found, and what it means for the next generation."""

from __future__ import annotations

from driftlaw.analysis import report as bounds_report
from driftlaw.auditing.record import Audit
from driftlaw.numerics.words import share, signed


def moved_words(audit: Audit) -> str:
    """Which features of the last generation moved most, and where mass left or entered the tails."""
    last = audit.generations[-1]
    if not last.exceeds_floor:
        return "No mean moved by more than sampling."
    moved = [f for f in last.changes.features if f.shift.low > 0 or f.shift.high < 0][:3]
    listed = ", ".join(f"{f.name} by {signed(f.shift.value)}σ" for f in moved)
    tails = [
        f"{c.name} {share(c.tail.value)} (real {share(c.real_tail.value)})"
        for c in last.changes.columns
        if c.tail.low > c.real_tail.high or c.tail.high < c.real_tail.low
    ][:3]
    beyond = f" Beyond the real 1 % and 99 % quantiles, or in no real category: {', '.join(tails)}." if tails else ""
    return f"Moved most in generation {last.index}: {listed or 'no single feature'}.{beyond}"


def alpha_words(audit: Audit) -> str:
    """Effective alpha and memory, or why there is none."""
    a = audit.effective_alpha
    if a.is_refused:
        return f"Effective alpha: {a.warnings[0] if a.warnings else 'not identifiable'}."
    extra = f" ({a.warnings[0]})" if a.warnings else ""
    if a.stderr == 0.0:
        return f"Alpha {a.value:.3g}, given{extra}: an error lives about {audit.memory.text()} generations."
    return f"Effective alpha {a.text()}: an error lives about {audit.memory.text()} generations."


def alignment_words(audit: Audit) -> str:
    """What the alignment of innovations means."""
    said = bounds_report.alignment_words(audit.alignment)
    size = "" if audit.alignment.is_refused else f" Mean innovation {audit.innovation.text()}."
    return f"{said[0].upper()}{said[1:]}.{size}"


def regime_words(audit: Audit) -> str:
    """The regime with its first reason."""
    reason = f": {audit.regime.evidence[0]}" if audit.regime.evidence else ""
    return f"Regime: {audit.regime.name}{reason}."


def dynamics_words(audit: Audit) -> tuple[str, ...]:
    """What is known of effective alpha, alignment and regime, and in one sentence what is not and would give it."""
    known, unknown = [], []
    alpha, alignment = audit.effective_alpha, audit.alignment
    if alpha.is_refused:
        why = alpha.why.removeprefix("not identifiable: ").removesuffix("; give alpha if it is known")
        unknown.append(f"effective alpha ({why})" if why else "effective alpha")
    else:
        known.append(alpha_words(audit))
    if alignment.is_refused:
        unknown.append("the alignment of innovations")
    else:
        known.append(alignment_words(audit))
    if audit.regime.name in ("undetermined", "undecided"):
        unknown.append("the law of growth")
    else:
        known.append(regime_words(audit))
    if unknown:
        more = "Give the fresh fraction if you know it, or audit more generations of this line."
        known.append(f"Not known from these data: {', '.join(unknown)}. {more}")
    return tuple(known)

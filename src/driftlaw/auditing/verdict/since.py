"""What an audit says that an earlier one did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driftlaw.auditing.record import Audit, GenerationAudit


def since(old: Audit, new: Audit) -> tuple[str, ...]:
    """Differences between two audits, in sentences: the verdict, new and settled findings, and changed drift.

    Args:
        old: the earlier audit.
        new: the later one. Generations are matched by name.
    """
    lines = []
    if old.verdict.word != new.verdict.word:
        lines.append(f"The verdict was {old.verdict.word} and is {new.verdict.word}")
    if old.features.get("fingerprint") != new.features.get("fingerprint"):
        lines.append("The features differ, so sizes of drift cannot be compared")
    before = {g.name: g for g in old.generations}
    for g in new.generations:
        known = before.get(g.name)
        if known is None:
            lines.append(f"{g.name} is new: {'; '.join(f.text for f in g.findings[:3]) or 'nothing was found'}")
        else:
            lines += _generation(known, g, old.features.get("fingerprint") == new.features.get("fingerprint"))
    lines += [f"{name} was audited before and is not now" for name in before.keys() - {g.name for g in new.generations}]
    return tuple(lines) or ("Nothing changed since the last audit",)


def _generation(old: GenerationAudit, new: GenerationAudit, comparable: bool) -> list[str]:
    was = {(f.look, f.subject): f for f in old.findings}
    now = {(f.look, f.subject): f for f in new.findings}
    lines = [f"{new.name}: new finding: {f.text}" for key, f in now.items() if key not in was]
    lines += [f"{new.name}: no longer found: {f.text}" for key, f in was.items() if key not in now]
    apart = old.drift.high < new.drift.low or new.drift.high < old.drift.low
    if comparable and apart:
        lines.append(f"{new.name}: drift was {old.drift} and is {new.drift}")
    return lines

"""What must happen: refresh policies, their memory, drift as a quadratic form, and every bound."""

from driftlaw.theory.accumulation import (
    Contributions,
    accumulated_drift,
    alignment,
    certified_drift,
    contributions,
)
from driftlaw.theory.propagator import effective_memory, propagator, propagator_initial
from driftlaw.theory.refresh import (
    Accumulate,
    AccumulateSubsample,
    FixedFraction,
    Policy,
    Replace,
    Schedule,
    Window,
    build,
    check_rows,
    parse,
)

__all__ = [
    "Accumulate",
    "AccumulateSubsample",
    "Contributions",
    "FixedFraction",
    "Policy",
    "Replace",
    "Schedule",
    "Window",
    "accumulated_drift",
    "alignment",
    "build",
    "certified_drift",
    "check_rows",
    "contributions",
    "effective_memory",
    "parse",
    "propagator",
    "propagator_initial",
]

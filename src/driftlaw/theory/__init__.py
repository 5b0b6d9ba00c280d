"""What must happen: refresh policies, their memory, drift as a quadratic form, and every bound."""

from driftlaw.theory import bounds
from driftlaw.theory.accumulation import (
    Contributions,
    accumulated_drift,
    alignment,
    certified_drift,
    contributions,
)
from driftlaw.theory.adaptive import Adaptive
from driftlaw.theory.bounds import Assumption, Bound, Evidence
from driftlaw.theory.propagator import effective_memory, propagator, propagator_initial
from driftlaw.theory.refresh import (
    Accumulate,
    AccumulateSubsample,
    FixedFraction,
    FixedReal,
    Policy,
    Replace,
    Schedule,
    Window,
    build,
    check_rows,
    parse,
)
from driftlaw.theory.regimes import Regime, classify, growth_exponent

__all__ = [
    "Accumulate",
    "AccumulateSubsample",
    "Adaptive",
    "Assumption",
    "Bound",
    "Contributions",
    "Evidence",
    "FixedFraction",
    "FixedReal",
    "Policy",
    "Regime",
    "Replace",
    "Schedule",
    "Window",
    "accumulated_drift",
    "alignment",
    "bounds",
    "build",
    "certified_drift",
    "check_rows",
    "classify",
    "contributions",
    "effective_memory",
    "growth_exponent",
    "parse",
    "propagator",
    "propagator_initial",
]

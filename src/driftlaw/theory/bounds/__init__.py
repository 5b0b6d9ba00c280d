"""Every bound and certificate beside what it needs and what was measured; numbers in, :class:`Bound` out.

``one_step``, ``gradient``: one generation. ``accumulated``, ``floors``, ``theorem_4_2``: many generations in chi2.
``sharper``: T1 to T8.
``certificates``: many generations in TV, no smallness or tail assumption. ``assumptions``: the audit of A1-A5.
"""

from driftlaw.theory.bounds.accumulated import (
    drift_bracket,
    innovation_bracket,
    minkowski,
    mixing_contraction,
    steady_state,
)
from driftlaw.theory.bounds.assumptions import Evidence
from driftlaw.theory.bounds.certificates import one_step_tv, tv_certificate, tv_steady_state
from driftlaw.theory.bounds.floors import (
    improved_floor,
    improved_limsup_floor,
    proposition_4_1_counter_example,
    proposition_4_1_floor,
    proposition_4_1_sum,
    two_step_floor,
)
from driftlaw.theory.bounds.gradient import (
    gradient_floor,
    gradient_kl,
    gradient_kl_reverse,
    gradient_observability,
)
from driftlaw.theory.bounds.one_step import (
    consistent_field_identity,
    proposition_3_1,
    proposition_3_1_reverse,
    proposition_3_3,
    proposition_3_3_clean,
    sharp_first_order,
    theorem_3_4,
)
from driftlaw.theory.bounds.sharper import (
    bounded_error,
    discounted_gradient,
    exponential_pinsker,
    floor_without_alpha,
    half_way_tv,
    pythagoras,
    start_kl,
    start_kl_decay,
    stein_floor,
    transport,
)
from driftlaw.theory.bounds.statement import Assumption, Bound
from driftlaw.theory.bounds.theorem_4_2 import (
    theorem_4_2_additive,
    theorem_4_2_displayed,
    theorem_4_2_required_constant,
)

__all__ = [
    "Assumption",
    "Bound",
    "Evidence",
    "bounded_error",
    "consistent_field_identity",
    "discounted_gradient",
    "drift_bracket",
    "exponential_pinsker",
    "floor_without_alpha",
    "gradient_floor",
    "gradient_kl",
    "gradient_kl_reverse",
    "gradient_observability",
    "half_way_tv",
    "improved_floor",
    "improved_limsup_floor",
    "innovation_bracket",
    "minkowski",
    "mixing_contraction",
    "one_step_tv",
    "proposition_3_1",
    "proposition_3_1_reverse",
    "proposition_3_3",
    "proposition_3_3_clean",
    "proposition_4_1_counter_example",
    "proposition_4_1_floor",
    "proposition_4_1_sum",
    "pythagoras",
    "sharp_first_order",
    "start_kl",
    "start_kl_decay",
    "steady_state",
    "stein_floor",
    "theorem_3_4",
    "theorem_4_2_additive",
    "theorem_4_2_displayed",
    "theorem_4_2_required_constant",
    "transport",
    "tv_certificate",
    "tv_steady_state",
    "two_step_floor",
]

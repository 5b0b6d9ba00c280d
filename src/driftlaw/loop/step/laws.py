"""The law behind a source or a model, where its density is known."""

from __future__ import annotations

import torch

from driftlaw.process.laws.law import AtTimeZero, ExactLaw
from driftlaw.process.score import Law


def law_of(thing: object) -> ExactLaw | None:
    """The exact law of a source or a model; what has a ``log_prob`` alone is a law at time 0; None without either."""
    law: ExactLaw | None = getattr(thing, "law", None)
    if law is None and isinstance(thing, Law):
        probe = thing.sample(1, torch.Generator().manual_seed(0)).cpu()
        try:
            thing.log_prob(probe)
        except NotImplementedError:  # declared, and absent
            return None
        return AtTimeZero(thing, tuple(probe.shape[1:]))
    return law

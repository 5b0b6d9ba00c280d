"""Whether an own learner, policy or source keeps the contracts of a study: as ``check_estimator`` of scikit-learn.

Each function runs the object on small inputs and raises a :class:`ConformanceError` that lists everything that failed.
No test framework is needed; inside one, a call is a test.

Example:
    >>> import driftlaw as dl
    >>> from driftlaw.testing import check_estimator, check_policy
    >>> check_estimator(dl.GaussianMLE())
    >>> check_policy(dl.Window(3, fresh=0.1))
"""

from driftlaw.testing.checking import ConformanceError
from driftlaw.testing.estimator import check_estimator
from driftlaw.testing.policy import check_policy
from driftlaw.testing.source import check_source

__all__ = ["ConformanceError", "check_estimator", "check_policy", "check_source"]

"""One-generation bounds against fields whose energies, observability and divergences are known in closed form."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.theory import bounds


def exact(value):
    return Estimate.exact(value, "closed form")


# --- oracles of theory section 7: q = N(0, I) stationary, L = T - t0, reverse path started from q_T = N(0, I) ---------


def constant_field(w, L):
    """e(x) = w: dictionary of eps*^2 = eps_hat^2, eta, chi2, KL (both directions)."""
    m2 = 4 * w**2 * (1 - math.exp(-L / 2)) ** 2
    eta = 4 * (1 - math.exp(-L / 2)) ** 2 / L
    return {"eps2": w**2 * L, "eps_hat2": w**2 * L, "eta": eta, "chi2": math.expm1(m2), "kl": m2 / 2, "kl_back": m2 / 2}


def linear_field(w, L):
    """e(x) = w x in one dimension."""
    limit = 1 / (1 - 2 * w)

    def variance(s):
        return limit + (1 - limit) * math.exp(-(1 - 2 * w) * s)

    v = variance(L)
    return {
        "eps2": w**2 * L,
        "eps_hat2": w**2 * quad(variance, 0, L)[0],
        "eta": 2 * (1 - math.exp(-L)) ** 2 / L,
        "chi2": (v * (2 - v)) ** -0.5 - 1,
        "kl": (v - 1 - math.log(v)) / 2,
        "kl_back": (1 / v - 1 + math.log(v)) / 2,
    }


ORACLES = [(constant_field, w, L) for w in (0.05, 0.3, 0.6) for L in (0.5, 2.5)]
ORACLES += [(linear_field, w, L) for w in (-0.4, -0.05, 0.05, 0.2) for L in (0.5, 2.5)]


def gaussian_kl(m1, v1, m2, v2):
    return ((m1 - m2) ** 2 / v2 + v1 / v2 - 1 - math.log(v1 / v2)) / 2


def consistent_gaussian(m, v, s, L):
    """q = N(0, s), p_hat = N(m, v); the learned score is that of the diffused p_hat, the start is p_hat_T.

    Returns KL and energy in the direction p_hat -> q and in the direction q -> p_hat: (KL_t0, KL_T, energy) each.
    """

    def laws(t):
        a = math.exp(-t / 2)
        return m * a, 1 + (v - 1) * a**2, 1 + (s - 1) * a**2

    def error(t, mean, variance):
        """E |s_hat - s|^2 under N(mean, variance): the error is (1/s_t - 1/v_t) x + m_t/v_t."""
        m_t, v_t, s_t = laws(t)
        slope = 1 / s_t - 1 / v_t
        return (slope * mean + m_t / v_t) ** 2 + slope**2 * variance

    (m0, v0, s0), (mT, vT, sT) = laws(0), laws(L)
    hat = quad(lambda t: error(t, laws(t)[0], laws(t)[1]), 0, L, epsabs=1e-12)[0]
    star = quad(lambda t: error(t, 0, laws(t)[2]), 0, L, epsabs=1e-12)[0]
    return (
        (gaussian_kl(m0, v0, 0, s0), gaussian_kl(mT, vT, 0, sT), hat),
        (gaussian_kl(0, s0, m0, v0), gaussian_kl(0, sT, mT, vT), star),
    )


@pytest.mark.parametrize("case", [(0.0, 1.5, 1.0), (1.2, 0.6, 1.0), (-0.7, 2.0, 0.5)])
def test_proposition_3_1_is_an_equality_for_consistent_fields(case):
    """Any coefficient but 1/2, and any loss of the initialisation, shows here."""
    (kl, kl_T, hat), (kl_back, kl_back_T, star) = consistent_gaussian(*case, L=1.5)
    assert kl_T > 1e-3  # the initialisation term is not negligible
    identity = bounds.consistent_field_identity(hat, kl_T, exact(kl), consistent=True)
    assert identity.slack == pytest.approx(1, abs=1e-9)
    assert identity.certified
    upper = bounds.proposition_3_1(hat, kl_T, exact(kl))
    assert upper.slack == pytest.approx(1, abs=1e-9)
    assert bounds.proposition_3_1_reverse(star, kl_back_T, exact(kl_back)).slack == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("field", "w", "L"), ORACLES)
def test_no_bound_is_contradicted_by_an_oracle(field, w, L):
    o = field(w, L)
    kl, back, chi2 = exact(o["kl"]), exact(o["kl_back"]), exact(o["chi2"])
    checks = [
        bounds.proposition_3_1(o["eps_hat2"], 0.0, kl),
        bounds.proposition_3_1_reverse(o["eps2"], 0.0, back),
        bounds.proposition_3_3(o["eta"], o["eps2"], None, chi2),
        bounds.proposition_3_3_clean(o["eta"], o["eps2"], None, chi2),
        bounds.theorem_3_4(o["eps2"], None, chi2),
        bounds.gradient_kl(o["eps_hat2"], 0.0, kl, exact=True),  # both fields are gradients
        bounds.gradient_kl_reverse(o["eps2"], 0.0, back, exact=True),
        bounds.gradient_observability(o["eps2"], o["eps2"], exact(o["eta"]), exact=True),
    ]
    for bound in checks:
        assert not bound.contradicted, bound
        assert bound.slack >= 1 if bound.side == "upper" else bound.slack <= 1
        assert bound.violated == ()


@pytest.mark.parametrize(("field", "order"), [(constant_field, 2), (linear_field, 1)])
def test_the_sharp_leading_constant_is_one(field, order):
    """I = eta eps*^2 (1 + O(eps)): the relative error falls at least as eps, for constant fields as eps^2."""
    widths = np.array([0.02, 0.01, 0.005, 0.0025])
    gaps = []
    for w in widths:
        o = field(w, 2.0)
        gaps.append(abs(bounds.sharp_first_order(o["eta"], o["eps2"], exact(o["chi2"])).slack - 1))
    slopes = np.diff(np.log(gaps)) / np.diff(np.log(widths))
    assert slopes[-1] == pytest.approx(order, abs=0.05)
    assert gaps[-1] < 0.01


def test_coefficients_of_the_chi2_bounds():
    """The sharp constant is 1: at small errors no oracle can tell 1/4 from .26 or 4 from 3.9, so values are pinned."""
    assert bounds.proposition_3_3(0.5, 0.2).value.value == pytest.approx(0.025, rel=1e-14)
    assert bounds.proposition_3_3(0.5, 0.2, C=0.3).value.value == pytest.approx(0.025 - 0.3 * 0.04, rel=1e-14)
    assert bounds.proposition_3_3_clean(0.5, 0.2).value.value == pytest.approx(0.0125, rel=1e-14)
    assert bounds.theorem_3_4(0.2).value.value == pytest.approx(0.8, rel=1e-14)
    assert bounds.theorem_3_4(0.2, c=0.3).value.value == pytest.approx(0.8 + 0.3 * 0.04, rel=1e-14)


def test_clean_regime_is_where_the_remainder_costs_half():
    """eta eps^2/4 - C eps^4 = eta eps^2/8 exactly at eps^2 = eta/(8 C): ties 1/4, 1/8 and the limit together."""
    eta, C = 0.4, 0.5
    eps2 = eta / (8 * C)
    full, clean = bounds.proposition_3_3(eta, eps2, C), bounds.proposition_3_3_clean(eta, eps2, C)
    assert full.value.value == pytest.approx(clean.value.value, rel=1e-14)
    regime = {a.name: a.status for a in clean.assumptions}
    assert regime["eps*^2"] == "checked"
    assert bounds.proposition_3_3_clean(eta, eps2 * 1.001, C).violated == ("eps*^2",)
    assert bounds.proposition_3_3_clean(eta, 1.1).violated == ("eps*^2",)
    unknown = {a.name: a.status for a in bounds.proposition_3_3_clean(eta, eps2).assumptions}
    assert unknown["eps*^2"] == "not checkable from data"


def test_rotation_is_not_seen():
    """e = w A x, A antisymmetric, q = N(0, I): p_hat = q; path KL is blind to that, the gradient bounds are sharp."""
    w, L, d = 0.5, 2.0, 2
    eps2 = w**2 * d * L
    assert bounds.proposition_3_1(eps2, 0.0, exact(0.0)).slack == math.inf
    for bound in (bounds.gradient_kl, bounds.gradient_kl_reverse):
        b = bound(0.0, 0.0, exact(0.0), exact=True)
        assert b.value.value == 0
        assert not b.contradicted
    assert bounds.gradient_observability(0.0, eps2, exact(0.0), exact=True).value.value == 0


def test_gradient_part_of_a_linear_field():
    """e = E x under N(0, I): Pi e = S x, S the symmetric part; eta = 2 (1 - e^{-L})^2 |S|^2 / (L |E|^2)."""
    E = np.array([[0.3, 0.5], [-0.1, 0.2]])
    S = (E + E.T) / 2
    for L in (0.2, 1.26, 4.0):
        eta = 2 * (1 - math.exp(-L)) ** 2 * (S**2).sum() / (L * (E**2).sum())
        b = bounds.gradient_observability(L * (S**2).sum(), L * (E**2).sum(), exact(eta), exact=True)
        assert b.value.value == pytest.approx((S**2).sum() / (E**2).sum())
        assert b.slack >= 1
    L, eta = 1.26, 2 * (1 - math.exp(-1.26)) ** 2 / 1.26  # 0.8145, the most that linear fields reach: E = S
    assert bounds.gradient_observability(0.81 * L, L, exact(eta), exact=True).contradicted
    assert bounds.gradient_kl(0.4, 0.1).value.value == pytest.approx(0.3)
    assert bounds.gradient_kl_reverse(0.4, 0.1).value.value == pytest.approx(0.3)


def test_zero_error_is_not_observable_by_convention():
    assert bounds.gradient_observability(0.0, 0.0).value.value == 0


def test_leading_parts_and_critics_are_never_certified():
    o = constant_field(0.1, 1.0)
    for bound in (
        bounds.proposition_3_3(o["eta"], o["eps2"]),
        bounds.theorem_3_4(o["eps2"]),
        bounds.proposition_3_3(o["eta"], o["eps2"], C=1.0),
        bounds.sharp_first_order(o["eta"], o["eps2"]),
        bounds.gradient_kl(o["eps2"], 0.0),
    ):
        assert not bound.certified
    assert "not certified" in bounds.theorem_3_4(o["eps2"]).note
    assert bounds.gradient_kl(o["eps2"], 0.0, exact=True).certified
    assert bounds.theorem_3_4(1.5).violated == ("eps*^2",)
    assert bounds.proposition_3_1(math.inf, 0.0).violated == ("eps_hat^2",)
    assert bounds.consistent_field_identity(1.0, 0.0, consistent=False).violated == ("consistent",)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bounds.proposition_3_1(-0.1, 0.0),
        lambda: bounds.proposition_3_1(0.1, math.nan),
        lambda: bounds.proposition_3_3(1.1, 0.1),
        lambda: bounds.proposition_3_3(Estimate.normal(1.5, 0.1, 10, "x"), 0.1),
        lambda: bounds.proposition_3_3(0.5, 0.1, C=-1.0),
        lambda: bounds.theorem_3_4(0.1, c=math.nan),
    ],
)
def test_bad_numbers(call):
    with pytest.raises(InputError):
        call()

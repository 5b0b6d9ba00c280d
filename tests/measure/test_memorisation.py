import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.measure.sets.memorisation import copied_p, memorisation, memorisation_floor
from driftlaw.seeding import generator


def draw(n, *name, d=6):
    return torch.randn(n, d, generator=generator(0, "memory", *name))


def naive(samples, training, held_out):
    """The two shares from full distance matrices; equal numbers of training and held-out rows."""
    d_t, d_h = torch.cdist(samples.double(), training.double()), torch.cdist(samples.double(), held_out.double())
    own = torch.cdist(held_out.double(), held_out.double()).fill_diagonal_(torch.inf)
    held = torch.cdist(held_out.double(), training.double()).amin(1) / own.amin(1)
    limit = held.sort().values[max(1, (len(held) + 1) // 100) - 1]
    found = d_t.amin(1) / d_h.amin(1)
    return float((found < limit).double().mean()), float((d_t.amin(1) < d_h.amin(1)).double().mean())


def test_naive_twin():
    s, t, h = draw(150, "s"), draw(120, "t"), draw(120, "h")
    s[:20] = t[:20] + 0.01
    found = memorisation(s, t, h, block=1000)
    assert (found["memorised"].value, found["train_nearest"].value) == pytest.approx(naive(s, t, h))


def test_calibrated_without_memorisation():
    """150 real triples, and as many blurred and collapsed models: shares 0.01 and 0.5, intervals that cover them.

    Coverage of 150 at nominal 95 %: P(fewer than 130) = 2e-5.
    """
    for change in (lambda x: x, lambda x: 0.5 * x, lambda x: torch.cat([x[:, :1].abs(), x[:, 1:]], dim=1)):
        covered = [0, 0]
        for i in range(150):
            found = memorisation(change(draw(100, i, "s")), draw(300, i, "t"), draw(100, i, "h"), seed=i)
            covered[0] += found["memorised"].low <= 0.0101
            covered[1] += found["train_nearest"].low <= 0.5 <= found["train_nearest"].high
        assert min(covered) >= 130, covered


def test_copies_are_caught():
    t, h = draw(400, "t"), draw(200, "h")
    copied = memorisation(t[:200], t, h)
    assert copied["memorised"].value == 1.0
    few = draw(200, "s")
    few[:30] = t[:30] + 0.001
    found = memorisation(few, t, h)
    assert found["memorised"].low > 0.05
    assert 0.15 <= found["memorised"].value <= 0.25
    # with as many training rows as held-out rows, all of them compared
    assert memorisation(t[:200], t[:200], h)["train_nearest"].low > 0.9


def test_floor_is_real_rows():
    floor = memorisation_floor(draw(400, "t"), draw(200, "h"), seed=3)
    assert floor["memorised"].low <= 0.01
    assert floor["train_nearest"].low <= 0.5 <= floor["train_nearest"].high
    assert floor["memorised"].n == 100


def test_order_of_rows_does_not_matter():
    s, t, h = draw(60, "s"), draw(80, "t"), draw(80, "h")
    again = memorisation(s.flip(0), t.flip(0), h.flip(0))
    assert {k: e.value for k, e in again.items()} == {k: e.value for k, e in memorisation(s, t, h).items()}


def test_data_with_duplicates_says_so():
    """10 % of held-out rows are exact copies, so that share is nominal; what goes beyond is not."""
    t, h = draw(100, "t"), draw(100, "h")
    h[:10] = t[:10]
    found = memorisation(draw(50, "s"), t, h)["memorised"]
    assert found.value == 0.0
    assert "10 of 100 held-out rows tie" in found.warnings[0]
    s = draw(50, "s")
    s[:5] = t[20:25]
    assert memorisation(s, t, h)["memorised"].value == pytest.approx(0.01), "as many as among real rows"
    s[5:10] = h[:5]  # at distance 0 of both sets: ratio 1, as for any row between them
    assert memorisation(s, t, h)["memorised"].value == pytest.approx(0.01)
    s[:40] = t[20:60]
    assert memorisation(s, t, h)["memorised"].value == pytest.approx(0.01 + 0.99 * (0.8 - 0.1) / 0.9)


def coarse(kind, *name):
    """Discrete, rounded and mixed rows: most of them tie with others."""
    x = draw(1400, kind, *name, d=4).double()
    if kind == "discrete":
        return x.round()
    if kind == "rounded":
        return (x[:, :2] * 5).round() / 5
    return torch.cat([x[:, :1] > 0, x[:, 1:2].round(), x[:, 2:3]], dim=1)


@pytest.mark.parametrize("kind", ["discrete", "rounded", "mixed"])
def test_ties_keep_the_nominal_rate(kind):
    """Honest rows: .01 on average (.14 to .55 where ties counted as copies); copies of real rows are found.

    40 sets of 300 rows; the mean rate has a standard error below .006: .04 is five of them away. P-values: of 40 at
    5 %, P(more than 9) < 1e-4. Half copies among rows that tie are found in 93 % or more: P(under 30 of 40) < 1e-4.
    """
    rates, alarms, found = [], 0, 0
    for i in range(40):
        x = coarse(kind, i)
        t, h, s = x[:800], x[800:1100], x[1100:]
        rates.append(memorisation(s, t, h)["memorised"].value)
        alarms += copied_p(s, t, h) < 0.05
        found += copied_p(torch.cat([t[:150], s[:150]]), t, h) < 0.05
    assert found >= 30
    assert abs(sum(rates) / 40 - 0.01) < 0.03
    assert alarms <= 9
    x = draw(1400, "copies", kind, d=8).double().mul(2).round()  # ties in every column, few rows that repeat
    t, h = x[:800], x[800:1100]
    assert memorisation(t[:300], t, h)["memorised"].low > 0.8
    assert copied_p(t[:300], t, h) < 1e-6


def test_ties_count_one_half():
    t = draw(60, "t")
    assert memorisation(draw(50, "s"), t, t.flip(0))["train_nearest"].value == 0.5


def test_a_large_offset_does_not_matter():
    s, t, h = (draw(60, name).double() for name in "sth")
    moved = memorisation(s + 1e8, t + 1e8, h + 1e8)
    found = memorisation(s, t, h)
    assert {k: e.value for k, e in moved.items()} == {k: e.value for k, e in found.items()}


def test_bad_input():
    with pytest.raises(InputError, match="the training rows has 2 row"):
        memorisation(draw(10, "a"), draw(2, "b"), draw(10, "c"))
    with pytest.raises(InputError, match="3, 6 and 6 features"):
        memorisation(draw(10, "a", d=3), draw(10, "b"), draw(10, "c"))
    with pytest.raises(InputError, match="1 of 10 rows of the sample are NaN"):
        memorisation(draw(10, "a").index_fill(0, torch.tensor([4]), torch.nan), draw(10, "b"), draw(10, "c"))

"""What each recorded number means: its name, symbol, unit, and which direction is worse.

Symbols use n for the generation, p for the target, p̂ⁿ for its model and qₙ₋₁ for the law that the model was trained
on; ``{p}`` stands for the law that is compared against (the target, or the training law of one step).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

#: The target and the training law, as written in symbols.
TARGET, TRAINING_LAW = "p", "qₙ₋₁"


@dataclass(frozen=True)
class Measure:
    """A quantity as a reader meets it.

    Args:
        key: name in the records.
        name: in words.
        symbol: in symbols, empty if the words are the usual name.
        unit: "nats", or empty for none.
        better: which direction means less drift; "real" where both ways from real data mean more.
        meaning: one sentence: what it measures and what its ends mean.
        bounded: whether it lies in [0, 1], so that the axis shows all of it.
    """

    key: str
    name: str
    symbol: str = ""
    unit: str = ""
    better: Literal["lower", "higher", "real", "neither"] = "neither"
    meaning: str = ""
    bounded: bool = False

    @property
    def axis(self) -> str:
        """Axis label: symbol (or words) and unit."""
        label = self.symbol or self.inline
        return f"{label}, {self.unit}" if self.unit else label

    @property
    def inline(self) -> str:
        """The name within a sentence."""
        proper = ("Kullback", "KL ", "Hellinger", "Fréchet")
        return self.name if self.name.startswith(proper) else self.name[:1].lower() + self.name[1:]

    @property
    def direction(self) -> str:
        """The direction in words."""
        names = {"lower": "lower is better", "higher": "higher is better", "real": "best where real data are"}
        return names.get(self.better, "")

    @property
    def beyond(self) -> str:
        """What it means to lie past real data on the side that looks better (for "real": above them), if known."""
        return _BEYOND.get(self.key, "")

    def against(self, law: str) -> Measure:
        """The same measure with the law that it compares against filled in."""
        return replace(self, symbol=self.symbol.replace("{p}", law), meaning=self.meaning.replace("{p}", law))


#: Measures that look better than real data do, and what that means: never that the model is better than real.
_BEYOND = dict.fromkeys(
    ("mmd2", "kid", "frechet", "energy", "chi2_lower"), "closer to real rows than other real rows: look for copies"
) | {
    "precision": "samples keep to the dense parts of the real data",
    "recall": "samples spread wider than real data",
    "density": "samples crowd where real data are dense",
    "coverage": "closer to real rows than other real rows: look for copies",
    "diversity": "samples spread wider than real data",
    "effective_number": "samples spread wider than real data",
}
_MEASURES = [
    Measure(
        "kl",
        "Kullback–Leibler divergence",
        "KL(p̂ⁿ ‖ {p})",
        "nats",
        "lower",
        "Mean log density ratio of the model's samples; large when it puts mass where p has none. 0: equal.",
    ),
    Measure(
        "kl_reverse",
        "Reverse Kullback–Leibler divergence",
        "KL({p} ‖ p̂ⁿ)",
        "nats",
        "lower",
        "The same on real data; large when the model misses part of it. 0: equal.",
    ),
    Measure(
        "tv",
        "Total variation distance",
        "TV(p̂ⁿ, {p})",
        "",
        "lower",
        "Largest difference in the probability of any event. 0: equal, 1: disjoint.",
        True,
    ),
    Measure(
        "hellinger2",
        "Squared Hellinger distance",
        "H²(p̂ⁿ, {p})",
        "",
        "lower",
        "Half the squared distance of the square roots of the densities. 0: equal, 1: disjoint.",
        True,
    ),
    Measure(
        "chi2",
        "Chi-squared divergence (the drift D)",
        "χ²(p̂ⁿ ‖ {p})",
        "",
        "lower",
        "Variance of the density ratio; infinite when the model's tails are too heavy. 0: equal.",
    ),
    Measure(
        "chi2_mix",
        "Chi-squared divergence to the even mixture",
        "χ²(p̂ⁿ ‖ ½{p} + ½p̂ⁿ)",
        "",
        "lower",
        "As chi-squared, but always finite. 0: equal, 1: disjoint.",
        True,
    ),
    Measure(
        "chi2_lower",
        "Chi-squared lower bound",
        "χ² (lower bound)",
        "",
        "lower",
        "What the kept features certify of χ²(p̂ⁿ ‖ p): the true drift is at least this. 0: no difference seen.",
    ),
    Measure(
        "mmd2",
        "Squared maximum mean discrepancy",
        "MMD²",
        "",
        "lower",
        "Kernel distance between the two sets; unbiased, so it may be slightly negative. 0: equal.",
    ),
    Measure(
        "kid",
        "Kernel distance (KID)",
        "KID",
        "",
        "lower",
        "Polynomial-kernel distance in feature space; unbiased, so it may be slightly negative. 0: equal.",
    ),
    Measure(
        "frechet",
        "Fréchet distance",
        "Fréchet distance",
        "",
        "lower",
        "Squared distance of Gaussians fitted to both sets in feature space. 0: equal means and covariances.",
    ),
    Measure(
        "energy",
        "Energy distance",
        "energy distance",
        "",
        "lower",
        "Distance of the two sets from pairwise distances of their rows. 0: equal.",
    ),
    Measure(
        "precision", "Precision", "", "", "higher", "Fraction of generated rows that lie within the real data.", True
    ),
    Measure(
        "recall",
        "Recall",
        "",
        "",
        "higher",
        "Fraction of real rows within the generated data: falls when variety is lost, rises with noise.",
        True,
    ),
    Measure(
        "density",
        "Density",
        "",
        "",
        "real",
        "Real neighbourhoods around each generated row, about 1 for real data; above 1 when samples crowd.",
    ),
    Measure(
        "coverage",
        "Coverage",
        "",
        "",
        "higher",
        "Fraction of real neighbourhoods that hold a generated row: falls when modes are lost.",
        True,
    ),
    Measure(
        "p_value",
        "p-value of the two-sample test",
        "p-value",
        "",
        "neither",
        "How often equal laws would differ this much (permutation test of MMD²). Small: they differ.",
        True,
    ),
    Measure(
        "chi2_gauss",
        "Chi-squared of Gaussian fits",
        "χ² of Gaussian fits",
        "",
        "lower",
        "Gaussians fitted to both sets in feature space: means and covariances only. Infinite when the generated "
        "spread is more than twice the real one in some direction.",
    ),
    Measure(
        "kl_gauss",
        "KL of Gaussian fits",
        "KL of Gaussian fits",
        "nats",
        "lower",
        "Gaussians fitted to both sets in feature space. 0: equal; may be slightly negative.",
    ),
    Measure(
        "diversity",
        "Mean distance of two samples",
        "",
        "",
        "real",
        "In units of the features. Falls when variety is lost, rises with noise.",
    ),
    Measure(
        "effective_number",
        "Effective number of distinct samples",
        "",
        "",
        "real",
        "How many equally likely, well separated kinds the samples amount to. Falls when they crowd.",
    ),
    Measure(
        "class_chi2",
        "Chi-squared of predicted class shares",
        "χ² of classes",
        "",
        "lower",
        "Distance of the shares of predicted classes from the real ones; unbiased, may be slightly negative.",
    ),
    Measure(
        "memorised",
        "Share of samples that sit on training rows",
        "",
        "",
        "lower",
        "Samples nearer to a training row, for their surroundings, than 99 % of unseen real rows. 0.01: none. "
        "1: all copied.",
        True,
    ),
    Measure(
        "train_nearest",
        "Share of samples nearer to training rows than to unseen ones",
        "",
        "",
        "lower",
        "Against as many real rows that were not trained on. 0.5: nothing memorised, whatever the model's quality.",
        True,
    ),
    Measure(
        "second_moment",
        "Second moment",
        "E|x|²",
        "",
        "neither",
        "Mean squared norm of the samples; shrinks when variety is lost, grows when noise is added.",
    ),
    Measure(
        "second_moment_drift",
        "Relative drift of the second moment",
        "E|x|² relative to real, minus 1",
        "",
        "neither",
        "0: as in the real data.",
    ),
    Measure(
        "entropy",
        "Entropy of the class weights",
        "H",
        "nats",
        "real",
        "Falls towards 0 when the samples crowd into few classes.",
    ),
    Measure(
        "energy_ideal",
        "Score-error energy on the ideal path",
        "ε*²",
        "nats",
        "lower",
        "Squared score error along the ideal reverse path.",
    ),
    Measure(
        "energy_learned",
        "Score-error energy on the learned path",
        "ε̂²",
        "nats",
        "lower",
        "Squared score error along the learned reverse path: bounds KL(p̂ⁿ ‖ qₙ₋₁) by ε̂²/2 plus the start.",
    ),
    Measure(
        "observability",
        "Observability of the score error",
        "η",
        "",
        "neither",
        "Share of the score error that shows in the samples. 0: invisible, 1: all of it.",
        True,
    ),
    Measure(
        "kl_initial",
        "Divergence left at the horizon",
        "KL(p̂ⁿ ‖ {p}) at T",
        "nats",
        "lower",
        "KL(p̂ⁿ ‖ {p}) at t₀ is this plus ε̂²/2 when the learned score is that of a law.",
    ),
    Measure(
        "kl_initial_reverse",
        "Reverse divergence left at the horizon",
        "KL({p} ‖ p̂ⁿ) at T",
        "nats",
        "lower",
        "The same the other way round, for ε*².",
    ),
    Measure(
        "kl_standard",
        "Cost of starting from pure noise",
        "KL(N(0, I) ‖ {p}) at T",
        "nats",
        "lower",
        "What a reverse process pays for starting from N(0, I) at the horizon.",
    ),
    Measure(
        "kl_standard_reverse",
        "Reverse cost of starting from pure noise",
        "KL({p} ‖ N(0, I)) at T",
        "nats",
        "lower",
        "The same the other way round; for networks an upper bound from the second moment.",
    ),
    Measure(
        "gradient_energy",
        "Gradient part of the error energy",
        "G²",
        "nats",
        "lower",
        "The part of the score error that can change the samples' law. For networks a lower bound by a critic.",
    ),
]

MEASURES = {m.key: m for m in _MEASURES}

#: In which order a headline looks for its measure: densities first, then calibrated distances between samples.
HEADLINE = ("kl", "frechet", "mmd2", "kid", "energy", "chi2_lower", "hellinger2", "tv", "chi2_mix", "chi2")


def measure(key: str, law: str = TARGET) -> Measure:
    """The measure of that name; an unknown one is shown under its own name."""
    known = MEASURES.get(key)
    return known.against(law) if known else Measure(key, key.replace("_", " ").capitalize())

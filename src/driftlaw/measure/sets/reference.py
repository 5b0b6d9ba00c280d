"""The real data that samples are compared with: all set distances at one n, beside a real-against-real floor.

Three disjoint sets of real rows have one task each, so that no number is optimistic:

- the first part of the training rows fits the features, the kernel bandwidth and the classifier;
- n further training rows, never seen by that fit, play the generated sample in :meth:`SampleReference.floor`;
- n held-out rows are what everything is compared with.

With the rows that a generator was trained on, memorisation is measured too; its floor lets half of the held-out rows
play the generator.

A generator trained on the training rows can do no better, in law, than the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.features.fitted import FeatureMap, Kind, as_rows
from driftlaw.measure.features.network import FeatureSpace
from driftlaw.measure.sets import diversity, gaussian_proxy, memorisation, twosample
from driftlaw.measure.sets.classes import ClassModel
from driftlaw.measure.sets.frechet import frechet
from driftlaw.measure.sets.prdc import prdc
from driftlaw.seeding import generator

#: keys of :meth:`SampleReference.compare`
KEYS = (
    *("chi2_lower", "mmd2", "kid", "energy", "frechet", "precision", "recall", "density", "coverage", "p_value"),
    *("chi2_gauss", "kl_gauss", "diversity", "effective_number"),
)
#: the key that labels add, and those that training rows add
CLASS_KEY, TRAINING_KEYS = "class_chi2", memorisation.KEYS
_LEAST = 12  # rows that every measure can be given for
_PERMUTATIONS = 499


@dataclass(frozen=True, eq=False)
class SampleReference:
    """Real rows prepared for comparison; make it with :meth:`fit`.

    Args:
        features: frozen feature map.
        bandwidth: h of the Gaussian kernel, from the rows that fitted the features.
        real: ``[n, k]`` features of held-out real rows.
        other: ``[n, k]`` features of the training rows that play the floor's sample.
        class_model: classifier, or None without labels.
        seed: seed of subsampling and permutations.
        warnings: what a reader of any number must know.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> draw = lambda n: torch.randn(n, 4, generator=g)
        >>> reference = SampleReference.fit(draw(600), draw(200))
        >>> reference.n
        200
        >>> reference.compare(draw(200) + 0.5)["chi2_lower"].low > 0
        True
    """

    features: FeatureMap
    bandwidth: float
    real: Tensor
    other: Tensor
    class_model: ClassModel | None
    seed: int
    warnings: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        real_train: Tensor,
        held_out: Tensor,
        *,
        labels: Tensor | None = None,
        held_out_labels: Tensor | None = None,
        classes: Sequence[str] | None = None,
        features: Kind | str | FeatureMap | FeatureSpace = "pca",
        dimension: int = 32,
        n: int | None = None,
        seed: int = 0,
    ) -> SampleReference:
        """Split the real rows, fit features, bandwidth and classifier.

        Args:
            real_train: ``[m, ...]`` real rows, m >= 24; at least half of them fit, n of them make the floor.
            held_out: ``[h, ...]`` real rows that share none with `real_train`.
            labels: ``[m]`` integer labels of `real_train`, or None.
            held_out_labels: ``[h]`` integer labels of `held_out`; needed with `labels`.
            classes: class names.
            features: "pca", "identity", "random_fourier", a network (its leading principal coordinates are taken), or a
                map that was fitted on other real rows.
            dimension: largest number of features.
            n: common set size; min(h, m // 2) if not given. Choose it no larger than the generated sets.
            seed: seed of the split, of random features and of the permutations.

        Raises:
            InputError: too few rows, different row shapes, bad rows, labels on one side only.
        """
        train, held = as_rows(real_train, "the real training set", 2 * _LEAST), as_rows(held_out, "held_out", _LEAST)
        if real_train.shape[1:] != held_out.shape[1:]:
            raise InputError(
                f"training rows have shape {tuple(real_train.shape[1:])}, held-out rows {tuple(held_out.shape[1:])}",
                "bring all sets to one shape first",
            )
        if (labels is None) != (held_out_labels is None):
            raise InputError("labels were given for only one of the two real sets", "give both or none")
        largest = min(len(held), len(train) // 2)
        size = largest if n is None else n
        if not _LEAST <= size <= largest:
            raise InputError(f"the common set size is {size}", f"choose {_LEAST} to {largest} for these real sets")
        fit_rows, floor_rows = split(len(train), size, seed)
        held_rows = torch.randperm(len(held), generator=generator(seed, "reference", "held_out"))[:size]
        if isinstance(features, FeatureMap):
            phi = features
        else:
            phi = FeatureMap.fit(real_train[fit_rows], features, dimension=dimension, seed=seed)
        warnings = list(phi.warnings)
        if size < 10 * phi.dimension:
            warnings.append(f"{size} rows for {phi.dimension} features: frechet and its interval are rough")
        model = None
        if labels is not None and held_out_labels is not None:
            fit_labels = torch.as_tensor(labels)
            if fit_labels.shape != (len(train),):
                raise InputError(
                    f"labels has shape {tuple(fit_labels.shape)} for {len(train)} rows", "one label per row"
                )
            model = ClassModel.fit(
                phi, real_train[fit_rows], fit_labels[fit_rows], held_out, held_out_labels, classes, seed=seed
            )
        bandwidth = twosample.median_distance(phi(real_train[fit_rows]))
        return cls(phi, bandwidth, phi(held_out[held_rows]), phi(real_train[floor_rows]), model, seed, tuple(warnings))

    @property
    def n(self) -> int:
        """The common set size."""
        return int(self.real.shape[0])

    def compare(self, samples: Tensor, training: Sequence[Tensor] = ()) -> dict[str, Estimate]:
        """Every set distance between `samples` and held-out real rows, keys :data:`KEYS`.

        Labels add "class_chi2", `training` adds "memorised" and "train_nearest".

        Args:
            samples: ``[s, ...]`` generated rows, s >= n; of more, a seeded subsample is compared and that is said.
            training: sets of real rows that the generator was trained on, or nothing.

        Raises:
            InputError: fewer than n rows, rows of another shape, NaN or infinite rows.
        """
        phi = self.features(samples)
        if len(phi) < self.n:
            raise InputError(
                f"{len(phi)} samples were given, real sets have {self.n} rows: distances are compared at equal n",
                f"draw {self.n} samples, or fit the reference with n={len(phi)}",
            )
        warnings: tuple[str, ...] = ()
        if len(phi) > self.n:
            warnings = (f"{self.n} of the {len(phi)} samples were compared: real sets have {self.n} rows",)
            keep = torch.randperm(len(phi), generator=generator(self.seed, "reference", "samples"))[: self.n]
            phi = phi[keep]
        found = self._measure(phi, warnings)
        if training:
            seen = torch.cat([self.features.in_parts(rows) for rows in training])
            found |= memorisation.memorisation(phi, seen, self.real, seed=self.seed)
        return found

    def floor(self, training: Sequence[Tensor] = ()) -> dict[str, Estimate]:
        """The keys of :meth:`compare` for real training rows, unseen by the fit, against held-out real rows."""
        found = self._measure(self.other, ())
        if training:
            seen = torch.cat([self.features.in_parts(rows) for rows in training])
            found |= memorisation.memorisation_floor(seen, self.real, seed=self.seed)
        return found

    def classes(self, samples: Tensor) -> dict[str, Estimate]:
        """Shares of predicted classes by name, and their "entropy" in nats; empty without labels."""
        if self.class_model is None:
            return {}
        return self.class_model.summary(self.class_model.predict(samples))

    def real_classes(self) -> dict[str, Estimate]:
        """:meth:`classes` of the held-out real rows."""
        model = self.class_model
        return {} if model is None else model.summary(model.predict_features(self.real))

    def _measure(self, phi: Tensor, warnings: tuple[str, ...]) -> dict[str, Estimate]:
        leading = gaussian_proxy.proxy_dimension(self.n, phi.shape[1])
        fitted = phi[:, :leading], self.real[:, :leading]
        measured = {
            "chi2_lower": twosample.chi2_lower(phi, self.real),
            "mmd2": twosample.mmd2(phi, self.real, self.bandwidth),
            "kid": twosample.kid(phi, self.real),
            "energy": twosample.energy_distance(phi, self.real),
            "frechet": frechet(phi, self.real),
            **prdc(self.real, phi),
            "p_value": twosample.mmd_permutation(
                phi, self.real, permutations=_PERMUTATIONS, bandwidth=self.bandwidth, seed=self.seed
            ),
            "chi2_gauss": gaussian_proxy.gaussian_chi2(*fitted),
            "kl_gauss": gaussian_proxy.gaussian_kl(*fitted),
            "diversity": diversity.diversity(phi),
            "effective_number": diversity.effective_number(phi, self.bandwidth / 2.0),
        }
        keys: tuple[str, ...] = KEYS
        if self.class_model is not None:
            predicted, reference = (self.class_model.predict_features(z) for z in (phi, self.real))
            measured[CLASS_KEY] = self.class_model.histogram_distance(predicted, reference)
            keys = (*KEYS, CLASS_KEY)
        return {key: measured[key].warn(*warnings) for key in keys}


def split(rows: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the training rows that fit the features, and of the n that play the floor's sample."""
    order = torch.randperm(rows, generator=generator(seed, "reference", "train"))
    return order[: rows - n], order[rows - n :]

r"""Masked diffusion: the learner of rows of letters (categorical tables, sequences of characters).

A row is L codes, column i in :math:`0..K_i - 1`. Noise masks each letter at rate 1 (the absorbing chain of
:mod:`driftlaw.process.ctmc`), a transformer learns :math:`p_\theta(x_i \mid \text{what is seen})`, and the learned
reverse rates are

.. math:: \hat R_t(y \to x) = \frac{e^{-t}}{1 - e^{-t}}\, p_\theta(x_i \mid y), \qquad x = y \text{ with mask } i \text{
          replaced by } x_i .

They are known at every time, so on alphabets that can be enumerated all path measures of
:mod:`driftlaw.measure.paths.jumps` are exact for the network (:meth:`LetterModel.reverse_rates`). Masks go in uniformly
random order, so sampling one position at a time is the learned chain itself, without a time step.

References: Austin et al., arXiv 2107.03006; Ou et al., arXiv 2406.03736 (rates do not depend on time but by a factor).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from driftlaw import seeding
from driftlaw.config import Described, make, validate
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn.denoiser.config import Count, Optimiser, Rate
from driftlaw.learn.denoiser.engine import check_device
from driftlaw.learn.denoiser.network import initialise
from driftlaw.learn.denoiser.training import fingerprint
from driftlaw.learn.discrete.network import LetterNetwork, initialise_letters
from driftlaw.learn.discrete.training import MaskedTraining
from driftlaw.learn.estimator import ALONE, FitContext
from driftlaw.learn.rows import check_rows, check_shape
from driftlaw.process.ctmc import Array, JumpProcess, Rates, generator_of
from driftlaw.process.draws import own_generator
from driftlaw.process.score import Time

#: Most letters of one column.
MOST_LETTERS = 4096


def _optimiser(value: Any) -> Any:
    return make(Optimiser, {str(k): v for k, v in value.items()}, "optimiser") if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class DiscreteDiffusion(Described):
    """Masked diffusion with a small transformer.

    Args:
        letters: size of the alphabet of every column, or None: as many as the training rows show, column by column. In
            a recursion give it: a letter that one generation lost is then still known to the next.
        width, blocks, heads, dropout: of the transformer; heads divide the width.
        optimiser: how long and how fast it learns (steps, warm_steps, batch, lr, ...).
        solver_steps: network evaluations of a sample; None unmasks one position at a time, which is exact.
        sample_batch: rows sampled at once.
        checkpoint_every: steps between two checkpoints; 0 saves only the finished fit.

    Example:
        >>> rows = torch.randint(0, 3, (64, 4), generator=torch.Generator().manual_seed(0)).float()
        >>> config = DiscreteDiffusion(letters=3, width=16, optimiser=Optimiser(steps=5, batch=16))
        >>> config.fit(rows).sample(2, torch.Generator().manual_seed(1)).shape
        torch.Size([2, 4])
    """

    kind: ClassVar[str] = "discrete"
    letters: Annotated[int, Field(ge=2, le=MOST_LETTERS)] | None = None
    width: Count = 64
    blocks: Count = 2
    heads: Count = 4
    dropout: Rate = 0.0
    optimiser: Annotated[Optimiser, BeforeValidator(_optimiser)] = field(default_factory=Optimiser)
    solver_steps: Count | None = None
    sample_batch: Count = 1024
    checkpoint_every: Annotated[int, Field(ge=0)] = 500

    #: A dry run does not fit it.
    probes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        validate(self)
        if self.width % self.heads:
            raise ConfigError(f"DiscreteDiffusion: {self.heads} heads do not divide width = {self.width}", "change one")
        if self.optimiser.patience or self.optimiser.validation:
            raise ConfigError("DiscreteDiffusion: patience and validation are not supported", "leave them at 0")

    def compiles(self, device: str) -> bool:
        """Never."""
        return False

    def check(self, shape: tuple[int, ...], device: str = "cpu") -> None:
        """Refuse rows that are not sequences of letters, or an absent device."""
        check_device(device)
        if len(shape) != 1:
            raise InputError(f"rows of shape {list(shape)} are no rows of letters", "give codes [n, L]")

    def fit(self, data: Tensor, context: FitContext = ALONE) -> LetterModel:
        """Learn the law of the rows.

        Args:
            data: ``[n, L]`` codes 0, 1, ... as floating-point numbers.
            context: seed, held-out rows, warm start, checkpoint, progress, device.

        Raises:
            InputError: rows that are no codes, a letter outside the alphabet, an alphabet of one letter, or a warm
                start of another model.
        """
        data = check_rows(data)
        self.check(tuple(data.shape[1:]), context.device)
        codes = self._codes(data, "training set")
        sizes = self._sizes(codes, context)
        self._check_sizes(codes, sizes, "training set")
        held_out = None
        if context.held_out is not None:
            check_shape(context.held_out, tuple(data.shape[1:]), "the held-out set")
            held_out = self._codes(check_rows(context.held_out, "held-out set", minimum=1), "held-out set")
            if bool((held_out >= sizes).any()):  # a letter that training never saw has no finite loss
                held_out = held_out[(held_out < sizes).all(1)]
                held_out = held_out if len(held_out) else None
        net = self._network(sizes)
        g = seeding.generator(context.seed, "initialise")
        initialise(net, g)
        initialise_letters(net, g)
        warm = None
        if context.warm_start is not None:
            warm = context.warm_start.state()
            self._load(net, warm, "the warm start")
        steps = self.optimiser.fit_steps(len(codes), warm is not None)
        identity = fingerprint(self.config(), data, warm, context)
        plain = FitContext(
            seed=context.seed, checkpoint=context.checkpoint, progress=context.progress, device=context.device
        )
        training = MaskedTraining(self, net.to(context.device), codes, None, steps, plain, identity)  # type: ignore[arg-type]
        training.watch(held_out, net.mask)
        training.run()
        return LetterModel(self, training.average, training.summary())  # type: ignore[arg-type]

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> LetterModel:
        """Inverse of :meth:`LetterModel.state`.

        Raises:
            InputError: the state is not one of this configuration.
        """
        if "net.letters" not in state or tuple(state["net.letters"].shape) != tuple(shape):
            raise InputError("the weights are not those of a model of such rows", "load them with their own study")
        net = self._network(state["net.letters"])
        self._load(net, state, "the weights")
        return LetterModel(self, net.eval().requires_grad_(False), {})

    def _network(self, sizes: Tensor) -> LetterNetwork:
        with torch.random.fork_rng(devices=[]):  # constructing it draws weights that others replace
            return LetterNetwork(len(sizes), sizes, self.width, self.blocks, self.heads, self.dropout)

    def _load(self, net: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
        weights = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        expected = {k: tuple(v.shape) for k, v in net.state_dict().items()}
        if {k: tuple(v.shape) for k, v in weights.items()} != expected:
            raise InputError(f"{what} do not fit this configuration and these rows", "give letters, the same for all")
        net.load_state_dict(weights)

    def _codes(self, data: Tensor, what: str) -> Tensor:
        codes = data.long()
        bad = (codes.to(data.dtype) != data).any(1) | (codes < 0).any(1)
        if bool(bad.any()):
            raise InputError(
                f"{int(bad.sum())} of {len(data)} rows of the {what} hold numbers that are no codes; the first is row "
                f"{int(bad.nonzero()[0])}",
                "number the letters of each column 0, 1, 2, ...",
            )
        return codes

    def _sizes(self, codes: Tensor, context: FitContext) -> Tensor:
        if self.letters is not None:
            return torch.full((codes.shape[1],), self.letters)
        if isinstance(context.warm_start, LetterModel):
            return context.warm_start.letters
        return codes.amax(0) + 1

    def _check_sizes(self, codes: Tensor, sizes: Tensor, what: str) -> None:
        outside = codes >= sizes
        if bool(outside.any()):
            row, column = (int(i) for i in outside.nonzero()[0])
            raise InputError(
                f"row {row} of the {what} has letter {int(codes[row, column])} in column {column}, whose alphabet has "
                f"{int(sizes[column])}",
                "raise letters",
            )
        if int(sizes.max()) < 2:
            raise InputError(f"the alphabet of the {what} has one letter: there is nothing to learn", "give letters")
        if int(sizes.max()) > MOST_LETTERS:
            raise InputError(f"an alphabet of {int(sizes.max())} letters", f"at most {MOST_LETTERS}")


class LetterModel:
    """A trained masked diffusion.

    Attributes:
        training: numbers of the fit; losses bound the negative log-likelihood, nats per position.
    """

    def __init__(self, config: DiscreteDiffusion, net: LetterNetwork, training: Mapping[str, float]) -> None:
        self.config, self.net, self.training = config, net, dict(training)

    @property
    def letters(self) -> Tensor:
        """Sizes of the alphabets, int64 ``[L]``."""
        sizes: Tensor = self.net.letters.cpu()  # type: ignore[assignment]
        return sizes

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` rows of codes, ``[n, L]`` float32. Exact draws of the learned chain unless ``solver_steps < L``."""
        if n < 1:
            raise InputError(f"{n} samples were asked", "ask for at least 1")
        g, length = own_generator(generator), len(self.letters)
        steps = min(self.config.solver_steps or length, length)
        device = next(self.net.parameters()).device
        done = []
        with torch.inference_mode():
            for size in [len(part) for part in torch.split(torch.empty(n), self.config.sample_batch)]:
                order = torch.rand(size, length, generator=g).argsort(1)
                x = torch.full((size, length), self.net.mask)
                for places in order.tensor_split(steps, dim=1):
                    p = self.probabilities(x.to(device)).cpu()
                    p = p.gather(1, places[..., None].expand(-1, -1, p.shape[-1])).double()
                    u = torch.rand(places.shape, generator=g, dtype=torch.float64)
                    letter = torch.searchsorted(p.cumsum(-1), ((1 - u) * p.sum(-1))[..., None])[..., 0]
                    x.scatter_(1, places, letter.clamp_(max=self.net.mask - 1))
                done.append(x)
        return torch.cat(done).float()

    def probabilities(self, x: Tensor) -> Tensor:
        """p(letter | what is seen) at every position of ``[n, L]`` codes (K where masked), ``[n, L, K]``."""
        value: Tensor = self.net(x).softmax(-1)
        return value

    def reverse_rates(self) -> tuple[JumpProcess, Rates]:
        """The chain of all words and the learned reverse rates, for exact path measures.

        Raises:
            InputError: more than 1024 words, or columns of different alphabets.
        """
        sizes = self.letters
        if int(sizes.min()) != int(sizes.max()):
            raise InputError("columns have alphabets of different sizes", "give letters, the same for all columns")
        chain = JumpProcess.absorbing(self.net.mask).words(len(sizes))
        k = self.net.mask + 1
        words = torch.tensor(list(itertools.product(range(k), repeat=len(sizes))))
        with torch.inference_mode():
            p = self.probabilities(words).double().numpy()
        table: Array = np.zeros((chain.states, chain.states))
        for i in range(len(sizes)):
            stride = k ** (len(sizes) - 1 - i)
            hidden = np.flatnonzero(words[:, i].numpy() == k - 1)
            for letter in range(k - 1):
                table[hidden, hidden - (k - 1 - letter) * stride] = p[hidden, i, letter]

        def rates(t: float) -> Array:
            return generator_of(table / math.expm1(t))

        return chain, rates

    def score(self, x: Tensor, t: Time) -> Tensor:
        """No such thing.

        Raises:
            InputError: always.
        """
        raise InputError("letters have no score, but rates", "use model.reverse_rates() with jump_measures")

    def state(self) -> dict[str, Tensor]:
        """Averaged weights and the sizes of the alphabets."""
        return {f"net.{k}": v.detach().cpu().clone() for k, v in self.net.state_dict().items()}

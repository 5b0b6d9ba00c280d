"""The target: densities, built-in data sets, and the user's arrays and image folders, all as a ``DataSource``."""

from driftlaw.data.arrays import ArraySource
from driftlaw.data.builtin import NAMES, catalogue, cifar10, digits, fashion_mnist, fetch_named
from driftlaw.data.density import DensitySource
from driftlaw.data.finite import FiniteSource
from driftlaw.data.images import ImageFolder
from driftlaw.data.registry import as_source, build
from driftlaw.data.source import Batch, DataSource
from driftlaw.data.supply import FreshSupply, Taken

__all__ = [
    "NAMES",
    "ArraySource",
    "Batch",
    "DataSource",
    "DensitySource",
    "FiniteSource",
    "FreshSupply",
    "ImageFolder",
    "Taken",
    "as_source",
    "build",
    "catalogue",
    "cifar10",
    "digits",
    "fashion_mnist",
    "fetch_named",
]

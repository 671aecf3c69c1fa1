"""Real data sets that come with the package, and simulated mixtures."""

from bayesgmm.datasets.bundled import load_faithful, load_galaxies, load_iris
from bayesgmm.datasets.simulated import make_mixture

__all__ = ["load_faithful", "load_galaxies", "load_iris", "make_mixture"]

"""The priors of a mixture: of its weights, its means and its covariance matrices."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.errors import check_choice, check_positive, got
from bayesgmm.moments import standard_deviation
from bayesgmm.notation import Line, Textbook, numbers

type PerFeature = float | tuple[float, ...] | None
"""A number for every feature, one number each, or None: to be resolved from the data."""


POSITIVE: Final = float(np.finfo(np.float64).tiny)
"""The smallest number that counts as positive."""


class Structure(NamedTuple):
    """What the components' covariance matrices share.

    Parameters
    ----------
    shared_scales : bool
        All components have the same scales.
    common_scale : bool
        All features have the same scale.
    correlations : str
        ``"none"``, ``"shared"`` by all components, or one matrix per ``"component"``.
    """

    shared_scales: bool
    common_scale: bool
    correlations: str


STRUCTURES: Final[dict[str, Structure]] = {
    "full": Structure(False, False, "component"),
    "tied": Structure(True, False, "shared"),
    "diag": Structure(False, False, "none"),
    "tied_diag": Structure(True, False, "none"),
    "spherical": Structure(False, True, "none"),
    "tied_spherical": Structure(True, True, "none"),
    "tied_correlation": Structure(False, False, "shared"),
}


@dataclass(frozen=True)
class Dirichlet(Textbook):
    """Prior of the weights.

    Parameters
    ----------
    concentration : float or sequence of float, default 1.0
        Positive. One number for all components (every weight vector that sums to 1 is equally
        likely at 1.0), or one per component, shape (n_components,).

    Raises
    ------
    TypeError, ValueError
        If a concentration is not a positive finite number.

    Examples
    --------
    >>> Dirichlet(5.0)
    Dirichlet(concentration=5.0)
    """

    concentration: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        value = per_feature(
            self.concentration, "concentration", "Give a positive number.", lowest=POSITIVE
        )
        if value is None:
            raise TypeError(
                "`concentration` must be a number or a sequence of numbers; got None. Give 1.0 "
                "for weights that are all equally likely."
            )
        object.__setattr__(self, "concentration", value)

    def per_component(self, n_components: int) -> NDArray[np.float64]:
        """Return the concentrations, shape (n_components,)."""
        return np.broadcast_to(np.asarray(self.concentration, dtype=float), n_components).copy()

    def draw(
        self, n_components: int, n_draws: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return weights drawn from the prior, shape (n_draws, n_components)."""
        return rng.dirichlet(self.per_component(n_components), n_draws)

    def textbook(self) -> tuple[Line, ...]:
        """Return the prior of the weights as a line of a textbook."""
        value = self.concentration
        own = isinstance(value, tuple)
        each = numbers(value, "").strip("()") if own else rf"{value:g}, \ldots, {value:g}"
        return (Line("w", rf"\operatorname{{Dirichlet}}({each})", r"\text{weights}"),)

    @property
    def exchangeable(self) -> bool:
        """Whether the prior treats all components alike."""
        return np.unique(np.asarray(self.concentration)).size == 1

    @property
    def naming(self) -> bool:
        """Whether the prior gives components their names."""
        return not self.exchangeable


@dataclass(frozen=True)
class NormalMeans(Textbook):
    """Prior of the components' means: independent Normals, the same for every component.

    Parameters
    ----------
    location : float, sequence of float or None
        Prior mean, in the data's units; one number or one per feature. None: the midpoint of
        the feature's range.
    scale : float, sequence of float or None
        Prior standard deviation, in the data's units. None: the feature's range
        (Richardson & Green 1997, their kappa = 1 / R**2).

    Raises
    ------
    TypeError, ValueError
        If `location` is not finite or `scale` is not positive and finite.

    Examples
    --------
    >>> NormalMeans(0.0, 2.0)
    NormalMeans(location=0.0, scale=2.0)
    """

    location: PerFeature = None
    scale: PerFeature = None

    def __post_init__(self) -> None:
        remedy = "Leave it None to take it from the data."
        location = per_feature(self.location, "location", remedy, lowest=None)
        scale = per_feature(self.scale, "scale", remedy, lowest=POSITIVE)
        object.__setattr__(self, "location", location)
        object.__setattr__(self, "scale", scale)

    def textbook(self) -> tuple[Line, ...]:
        """Return the prior of the means as a line of a textbook."""
        m, s = numbers(self.location, "midpoint"), numbers(self.scale, "range")
        law = r"\operatorname{Normal}(m_d, s_d^2)"
        return (Line(r"\mu_{kd}", law, rf"\text{{means, }} m = {m},\, s = {s}"),)


@dataclass(frozen=True)
class LKJCovariance(Textbook):
    """Prior of the covariance matrices: half-normal scales, LKJ correlations.

    Each covariance is ``diag(scales) @ correlation @ diag(scales)``, the separation strategy of
    Barnard, McCulloch & Meng (2000).

    Rows that are equal because they were rounded would make the posterior improper: a component
    on top of them has unbounded density as its scale goes to 0, faster than a half-normal prior
    can hold. A scale smaller than the rounding error cannot be told from the data, so where
    values repeat the prior is truncated there by default (`floor`). (Many rows exactly on a
    sloping line, which rounding can make too, are beyond its reach.)

    Parameters
    ----------
    eta : float, default 2.0
        LKJ shape; 1 is uniform over correlation matrices, larger favours weak correlations.
    scale : float, sequence of float or None
        Scale parameter of the half-normal prior of the scales (standard deviations), in the
        data's units; one number or one per feature. None: the feature's standard deviation
        (with a scale common to all features, their root mean square).
    structure : str, default "full"
        What the components share: ``"full"`` nothing; ``"tied"`` everything; ``"diag"`` no
        correlations; ``"tied_diag"`` no correlations, shared scales; ``"spherical"`` one scale
        per component; ``"tied_spherical"`` one scale; ``"tied_correlation"`` own scales, one
        shared correlation matrix.
    floor : float, sequence of float or None
        Smallest scale, in the data's units: the half-normal is truncated there. 0 truncates
        nothing. None: where a feature holds equal values, its largest rounding error, half the
        median gap between neighbouring values; else 0.

    Raises
    ------
    TypeError, ValueError
        If a number is not positive and finite, or `structure` is unknown.

    References
    ----------
    Lewandowski, Kurowicka & Joe (2009), Generating random correlation matrices based on vines
    and extended onion method, J. Multivariate Analysis 100. doi:10.1016/j.jmva.2009.04.008

    Examples
    --------
    >>> LKJCovariance(structure="diag")
    LKJCovariance(eta=2.0, scale=None, structure='diag', floor=None)
    """

    eta: float = 2.0
    scale: PerFeature = None
    structure: str = "full"
    floor: PerFeature = None

    def __post_init__(self) -> None:
        check_choice(self.structure, "structure", STRUCTURES)
        eta = check_positive(self.eta, "eta", "2.0 is a mild preference for weak correlations.")
        object.__setattr__(self, "eta", eta)
        for name, lowest in (("scale", POSITIVE), ("floor", 0.0)):
            value = per_feature(
                getattr(self, name), name, "Leave it None to take it from the data.", lowest=lowest
            )
            if STRUCTURES[self.structure].common_scale and isinstance(value, tuple):
                if len(set(value)) > 1:
                    raise ValueError(
                        f"`{name}` must be one number for structure {self.structure!r}, in which "
                        f"all features have the same scale; got {value}. Give one number, or "
                        f"choose structure 'diag'."
                    )
                value = value[0]
            object.__setattr__(self, name, value)

    def resolve(
        self, values: NDArray[np.float64], sample_weight: NDArray[np.float64] | None = None
    ) -> Self:
        """Return the prior with numbers from the data, shape (n_obs, n_features)."""
        some = values[(values == values).argmax(axis=0), np.arange(values.shape[1])]
        spread = standard_deviation(values, some, sample_weight)
        return self.resolve_to(spread, rounding(values, sample_weight))

    def resolve_to(self, spread: NDArray[np.float64], grain: NDArray[np.float64]) -> Self:
        """Return the prior with numbers from the data's standard deviations and rounding."""
        if not STRUCTURES[self.structure].common_scale:
            scale = resolved(self.scale, spread, "covariance.scale")
            floor = resolved(self.floor, np.minimum(grain, scale), "covariance.floor")
            return dataclasses.replace(self, scale=scale, floor=floor)
        common = resolved(self.scale, np.sqrt(np.mean(spread**2, keepdims=True)), "scale")
        # rows that are equal are equal in every feature, so the smallest grain is what matters
        smallest = resolved(self.floor, np.minimum(grain.min(keepdims=True), common), "floor")
        return dataclasses.replace(self, scale=common[0], floor=smallest[0])

    def lines(self) -> list[str]:
        """Return the prior as the lines of a printed specification."""
        structure = STRUCTURES[self.structure]
        tau, floor = shown(self.scale, "standard deviation"), self.floor
        truncated = floor is not None and bool(np.any(np.asarray(floor, dtype=float) > 0))
        scales = f"HalfNormal(scale = {tau}{f', floor = {shown(floor, "")}' if truncated else ''})"
        notes = [
            note
            for shared, note in (
                (structure.shared_scales, "all components"),
                (structure.common_scale, "all features"),
            )
            if shared
        ]
        if notes:
            scales += f", shared by {' and '.join(notes)}"
        lines = [f"  scales        ~ {scales}"]
        if structure.correlations != "none":
            shared = ", shared by all components" * (structure.correlations == "shared")
            lines.append(f"  correlations  ~ LKJ(eta = {self.eta:g}){shared}")
        return lines

    def textbook(self) -> tuple[Line, ...]:
        """Return the prior of the covariances as lines of a textbook."""
        structure = STRUCTURES[self.structure]
        k = "" if structure.shared_scales else "k"
        d = "" if structure.common_scale else "d"
        scale = rf"\sigma_{{{k}{d}}}" if k or d else r"\sigma"
        about = rf"\text{{scales, }} \tau = {numbers(self.scale, 'standard deviation')}"
        if self.floor is not None and np.any(np.asarray(self.floor) > 0):
            about += rf",\, {scale} \ge {numbers(self.floor, '')}"
        tau = r"\tau_d" if d else r"\tau"
        lines = [Line(scale, rf"\operatorname{{HalfNormal}}({tau})", about)]
        each = {"component": "R_k", "shared": "R", "none": ""}[structure.correlations]
        if each:
            law = rf"\operatorname{{LKJ}}({self.eta:g})"
            lines.append(Line(each, law, r"\text{correlations}"))
        vector = rf"\operatorname{{diag}}(\sigma{'_k' if k else ''})"
        product = rf"{vector} {each} {vector}" if each else rf"{vector}^2"
        if not d:
            product = rf"{scale}^2 I"
        whole = r"\Sigma_k" if k or each == "R_k" else r"\Sigma"
        return (*lines, Line(whole, product, r"\text{covariances}", "="))


def per_feature(
    value: float | Sequence[float] | None, name: str, remedy: str, *, lowest: float | None
) -> PerFeature:
    """Return a float, or a tuple of floats, every number finite and at least `lowest`."""
    if value is None:
        return None
    try:
        numbers = np.asarray(value)
    except ValueError:  # a sequence of sequences that are not equally long
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iuf":
        raise TypeError(
            f"`{name}` must be a number or a sequence of numbers; got {got(value)}. {remedy}"
        )
    numbers = numbers.astype(np.float64)
    if numbers.ndim > 1 or numbers.size == 0:
        raise ValueError(
            f"`{name}` must be one number or one per entry; got shape {numbers.shape}. {remedy}"
        )
    wrong = ~np.isfinite(numbers)
    rule = "finite"
    if lowest is not None:
        wrong |= numbers < lowest
        rule = "positive and finite" if lowest > 0 else "at least 0 and finite"
    if wrong.any():
        raise ValueError(f"`{name}` must be {rule}; got {value!r}. {remedy}")
    return float(numbers) if numbers.ndim == 0 else tuple(numbers.tolist())


def resolved(value: PerFeature, default: NDArray[np.float64], name: str) -> tuple[float, ...]:
    """Return one number per feature: those given, or the default."""
    if value is None:
        return tuple(default.tolist())
    numbers = np.atleast_1d(np.asarray(value, dtype=float))
    if numbers.size not in (1, default.size):
        raise ValueError(
            f"`{name}` must hold one number, or one per feature, {default.size}; got "
            f"{numbers.size}: {value}. Order them as the columns of `X`."
        )
    return tuple(np.broadcast_to(numbers, default.size).tolist())


def shown(value: PerFeature, default: str) -> str:
    """Return a hyperparameter as it is printed."""
    if value is None:
        return default
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{number:.4g}" for number in value) + "]"
    return f"{value:.4g}"


def rounding(
    values: NDArray[np.float64], sample_weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the largest rounding error of every feature, shape (n_features,).

    Half the median gap between neighbouring distinct values: half a step of the grid that values
    were rounded to. 0 where no value repeats: none stands for two rows. O(N D log N).
    """
    result = np.zeros(values.shape[1])
    for j in range(values.shape[1]):
        if sample_weight is not None:
            there = values[:, j] == values[:, j]
            distinct, which = np.unique(values[there, j], return_inverse=True)
            if np.bincount(which, sample_weight[there]).max() >= 2.0:
                result[j] = 0.5 * np.median(np.diff(distinct))
            continue
        column = np.sort(values[:, j])  # missing cells come last
        column = column[: np.count_nonzero(column == column)]
        rises = column[1:] != column[:-1]
        if 0 < np.count_nonzero(rises) < rises.size:
            distinct = np.concatenate((column[:1], column[1:][rises]))
            del column  # there may be many rows
            result[j] = 0.5 * np.median(np.diff(distinct), overwrite_input=True)
    return result

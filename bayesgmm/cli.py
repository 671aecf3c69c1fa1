"""The command line: fit a file, compare fits, predict with a saved one, read its summary; a demo.

Exit codes: 0 for success, 1 for a fit that failed, 2 for bad usage or bad input, 130 when
interrupted. An error is one line on standard error.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning, FitError, IdentifiabilityWarning
from bayesgmm.files import chosen, made_folder, output, read, split

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

OK: Final = 0
FIT_FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130

DEMO_COMPONENTS: Final = 2
DEMO_SEED: Final = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the name of the program; those of the process by default.

    Returns
    -------
    int
        0 success, 1 a fit that failed, 2 bad usage or bad input, 130 interrupted.
    """
    args = _parser().parse_args(argv)
    try:
        with _one_line_warnings():
            args.run(args)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has had enough: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except FitError as error:
        return _fail(error, INTERRUPTED if error.status == names.INTERRUPTED else FIT_FAILED)
    except (ValueError, TypeError, OSError) as error:
        return _fail(error, BAD_INPUT)
    return OK


def run_fit(args: argparse.Namespace) -> None:
    """Fit the rows of a file and save the posterior."""
    from bayesgmm.tree.storage import FORMATS

    out = output(args.out, tuple(FORMATS))
    table = chosen(read(args.data), split(args.columns), args.data)
    tree = bg.fit(
        table,
        _specification(args.components, args.structure),
        method=args.method,
        draws=args.draws,
        chains=args.chains,
        random_seed=args.seed,
        progressbar=_progressbar(args.quiet),
    )
    bg.save(tree, out)
    if not args.quiet:
        print(f"{bg.check(tree)}\n\nWrote {out}")
    _refuse_interrupted(tree, out)


def run_select(args: argparse.Namespace) -> None:
    """Fit several numbers of components, print what they say, and save the recommended fit."""
    from bayesgmm.tree.storage import FORMATS

    out = None if args.out is None else output(args.out, tuple(FORMATS))
    numbers, structures = _numbers(args.components), args.structure.split(",")
    selection = bg.select(
        chosen(read(args.data), split(args.columns), args.data),
        numbers,
        structures=structures,
        criteria=args.criteria.split(","),
        draws=args.draws,
        chains=args.chains,
        keep="none" if out is None else "recommended",
        folder=args.folder,
        random_seed=args.seed,
        progressbar=_progressbar(args.quiet),
    )
    print(selection)
    if out is not None:
        bg.save(selection.fits[selection.recommended], out)
        print(f"\nWrote the recommended fit to {out}")
    if len(selection.table) < len(numbers) * len(structures):
        raise FitError("interrupted; some fits are missing", status=names.INTERRUPTED)


def run_predict(args: argparse.Namespace) -> None:
    """Write the component of every row of a file, with its probabilities and log density."""
    import pandas as pd

    from bayesgmm.tree import features

    out = None if args.out is None else output(args.out, (".csv",))
    tree = bg.load(Path(args.fit).expanduser())
    fitted = features(tree)
    rows = chosen(read(args.data), [str(label) for label in fitted], args.data)
    rows = rows.set_axis(fitted, axis=1)  # a number where a CSV file can only have its digits
    probability = bg.predict_proba(tree, rows).transpose(names.OBS, names.COMPONENT)
    columns = {names.COMPONENT: bg.predict(tree, rows).values}
    for component in probability.coords[names.COMPONENT].values:
        column = probability.sel({names.COMPONENT: component})
        columns[f"probability_{component}"] = column.values
    columns["log_density"] = bg.score_samples(tree, rows).values
    result = pd.DataFrame(columns, index=rows.index)
    result.to_csv(sys.stdout if out is None else out, index_label=names.OBS)


def run_summary(args: argparse.Namespace) -> None:
    """Print the table of a saved fit and whether it converged."""
    _print_summary(bg.load(Path(args.fit).expanduser()))


def run_demo(args: argparse.Namespace) -> None:
    """Fit the bundled Old Faithful data, or the user's, and write the fit and two pictures."""
    from bayesgmm.tree import specification as fitted_specification

    if find_spec("matplotlib") is None:
        raise ValueError("The pictures need matplotlib. Run `pip install 'bayesgmm[plots]'`.")
    table, n_components = _demo_data(args)
    folder = made_folder(args.out_dir)
    tree = bg.fit(
        table,
        _specification(n_components, args.structure),
        random_seed=args.seed,
        progressbar=_progressbar(args.quiet),
    )
    print(f"{fitted_specification(tree)}\n")
    _print_summary(tree)
    written = [folder / "fit.nc", folder / "components.png", folder / "uncertainty.png"]
    bg.save(tree, written[0])
    _picture(bg.plot_components, tree, written[1])
    _picture(bg.plot_uncertainty, tree, written[2])
    print("\nWrote " + ", ".join(str(path) for path in written))
    _refuse_interrupted(tree, written[0])


def _parser() -> argparse.ArgumentParser:
    """Describe the arguments of all commands."""
    parser = argparse.ArgumentParser(
        prog="bayesgmm", description="Bayesian Gaussian mixtures: from data to clusters."
    )
    parser.add_argument("--version", action="version", version=f"bayesgmm {bg.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _describe_fit(commands.add_parser("fit", help="fit a mixture to the rows of a file"))
    _describe_select(commands.add_parser("select", help="compare numbers of components"))
    _describe_predict(commands.add_parser("predict", help="assign the rows of a file"))
    _describe_summary(commands.add_parser("summary", help="table and convergence of a fit"))
    _describe_demo(commands.add_parser("demo", help="fit the Old Faithful data, or a file"))
    return parser


def _describe_fit(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `fit`."""
    parser.set_defaults(run=run_fit)
    parser.add_argument(
        "data", help="file with a row per observation: .csv, .parquet, .feather, .arrow or .npy"
    )
    parser.add_argument("--components", type=int, required=True, metavar="K")
    parser.add_argument("--out", required=True, metavar="FIT", help="where to save: .nc or .zarr")
    parser.add_argument(
        "--method", default="nuts", help="nuts (default), fullrank_advi, advi, laplace, map or ml"
    )
    _describe_sampling(parser)
    _describe_shared(parser, seed=None)


def _describe_select(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `select`."""
    parser.set_defaults(run=run_select)
    parser.add_argument(
        "data", help="file with a row per observation: .csv, .parquet, .feather, .arrow or .npy"
    )
    parser.add_argument(
        "--components", default="1-8", metavar="K", help="numbers: 1-8 (default), or 2,3,5"
    )
    parser.add_argument(
        "--criteria",
        default="loo,evidence,icl,bic,aic",
        metavar="A,B",
        help="what to compare by (loo,evidence,icl,bic,aic), or waic; the first decides",
    )
    parser.add_argument("--out", metavar="FIT", help="where to save the recommended: .nc or .zarr")
    parser.add_argument(
        "--folder", metavar="DIR", help="where to write every fit, and to go on if interrupted"
    )
    _describe_sampling(parser)
    _describe_shared(parser, seed=None)


def _describe_predict(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `predict`."""
    parser.set_defaults(run=run_predict)
    parser.add_argument("fit", help="a saved fit")
    parser.add_argument("data", help="file with the columns that were fitted")
    parser.add_argument("--out", metavar="CSV", help="where to write; standard output by default")


def _describe_summary(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `summary`."""
    parser.set_defaults(run=run_summary)
    parser.add_argument("fit", help="a saved fit")


def _describe_demo(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `demo`."""
    parser.set_defaults(run=run_demo)
    parser.add_argument("data", nargs="?", help="a file of yours; Old Faithful by default")
    parser.add_argument(
        "--components", type=int, metavar="K", help="needed with a file of yours; 2 by default"
    )
    parser.add_argument("--out-dir", default="demo", help="where to write (demo)")
    _describe_shared(parser, seed=DEMO_SEED)


def _describe_sampling(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments that `fit` and `select` share."""
    parser.add_argument("--draws", type=int, default=1000, help="draws per chain (1000)")
    parser.add_argument("--chains", type=int, default=4, help="number of chains (4)")


def _describe_shared(parser: argparse.ArgumentParser, *, seed: int | None) -> None:
    """Describe the arguments that `fit`, `select` and `demo` share."""
    parser.add_argument("--columns", metavar="A,B", help="columns to use; all by default")
    parser.add_argument("--structure", default="full", help="what covariances share (full)")
    parser.add_argument("--seed", type=int, default=seed, help="random seed")
    parser.add_argument(
        "--quiet", action="store_true", help="no progress bar; after fit, no report"
    )


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show warnings as the errors are shown, and ours always."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print(f"bayesgmm: warning: {_one_line(message)}", file=sys.stderr)

    with warnings.catch_warnings():
        for ours in (ConvergenceWarning, IdentifiabilityWarning):
            warnings.filterwarnings("always", category=ours)
        warnings.showwarning = show
        yield


def _fail(message: object, code: int) -> int:
    """Say on standard error what went wrong and return the exit code."""
    print(f"bayesgmm: error: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: object) -> str:
    """Return a message without its line breaks."""
    return " ".join(str(message).split())


def _progressbar(quiet: bool) -> bool:
    """Return whether a progress bar is wanted and would be seen."""
    return not quiet and sys.stderr.isatty()


def _specification(n_components: int, structure: str) -> "bg.GaussianMixture":
    """Return the specification that the arguments ask for."""
    return bg.GaussianMixture(n_components, covariance=bg.LKJCovariance(structure=structure))


def _numbers(text: str) -> list[int]:
    """Return the numbers of components that a text such as "1-8" or "2,3,5" stands for."""
    try:
        first, dash, last = text.partition("-")
        if dash:
            return list(range(int(first), int(last) + 1))
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(
            f"`--components` must be numbers such as 1-8 or 2,3,5; got {text!r}. Write integers."
        ) from None


def _print_summary(tree: "xr.DataTree") -> None:
    """Print the table of a fit, then its convergence report."""
    table = bg.summary(tree)
    styles = {name: "{:.0f}" for name in table if name.startswith("ess")} | {"r_hat": "{:.3f}"}
    shown = {name: styles.get(name, "{:.4g}").format for name in table}
    print(f"{table.to_string(formatters=shown)}\n\n{bg.check(tree)}")


def _refuse_interrupted(tree: "xr.DataTree", path: Path) -> None:
    """Fail, after saving, where the user stopped the sampler before its time."""
    if tree.attrs.get(names.INTERRUPTED):
        raise FitError(
            f"interrupted; the draws made until then are in {path}", status=names.INTERRUPTED
        )


def _picture(plot: Callable[..., Any], tree: "xr.DataTree", path: Path) -> None:
    """Draw one plot into a file, without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.0), layout="constrained")
    plot(tree, ax=figure.subplots())
    figure.savefig(path, dpi=150)


def _demo_data(args: argparse.Namespace) -> "tuple[pd.DataFrame, int]":
    """Return the table to demonstrate with and the number of components."""
    if args.data is None:
        table, source = bg.datasets.load_faithful(), "Old Faithful"
    elif args.components is None:
        raise ValueError(
            f"`--components` must be given with a file of yours; got {args.data!r} alone. "
            "Add the number of clusters to look for: --components 3, or K=3 to make."
        )
    else:
        table, source = read(args.data), args.data
    table = chosen(table, split(args.columns), source)
    return table, DEMO_COMPONENTS if args.components is None else args.components

"""The floors of the house, as data, held against the imports of every file."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import bayesgmm as bg

PACKAGE = Path(bg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


@dataclass(frozen=True)
class Floor:
    """The rooms of one floor, what they may import, and from which other floors."""

    rooms: frozenset[str]
    third_party: frozenset[str]
    below: frozenset[int]


def floor(rooms: str, third_party: str, below: str) -> Floor:
    return Floor(
        frozenset(rooms.split()),
        frozenset({"numpy", *third_party.split()}),
        frozenset(int(number) for number in below.split()),
    )


FLOORS = (
    floor("names errors", "xarray", ""),
    floor("kernels", "numba llvmlite scipy", "0"),
    floor(
        "background cells chunked chunked_rows classes columns component_prior cubes data datasets "
        "degrees_of_freedom dependence factor_packing factor_prior known_labels labels measurement "
        "mixture moments notation overfitted packing partition_prior priors records sample_weights "
        "simulation table_files tables units",
        "xarray pandas pyarrow dask zarr",
        "0 1",
    ),
    floor(
        "factor_model jax_pass likelihood model op row_op", "pymc pytensor numba xarray", "0 1 2"
    ),
    floor(
        "blockwise criteria posterior_density problem tree",
        "xarray pandas arviz_base dask",
        "0 1 2",
    ),
    floor(
        "inference", "dask distributed nutpie numba pyarrow scipy threadpoolctl xarray", "0 1 2 3 4"
    ),
    floor(
        "alignment averaging bridge clustering comparable comparison conditionals convergence "
        "crossvalidation elpd evidence factor_scores functionals identifiability imputation "
        "information invariants lazy marginals modality model_probabilities modes moment_matching "
        "outliers pointwise pooling prediction quantiles regression summaries symmetry symptoms "
        "tail_mass uniformity",
        "arviz_base arviz_stats dask xarray pandas scipy",
        "0 1 2 4",
    ),
    floor(
        "calibration class_errors classifier folds held_out refits selection",
        "arviz_base arviz_stats scipy xarray pandas",
        "0 1 2 4 5 6",
    ),
    floor("plots", "matplotlib pandas xarray", "0 4 6 7"),
    floor("estimator cli files __main__ __init__", "pandas xarray matplotlib", "0 1 2 3 4 5 6 7 8"),
)

ONLY_IN = {
    "pymc": {
        "factor_model.py",
        "likelihood.py",
        "model.py",
        "op.py",
        *(f"inference/pymc_{x}.py" for x in ("advi", "compiled", "engine", "likelihood")),
    },
    "pytensor": {
        "factor_model.py",
        "likelihood.py",
        "model.py",
        "op.py",
        "row_op.py",
        "inference/pymc_compiled.py",
        "inference/pymc_likelihood.py",
    },
    "dask": {
        "chunked.py",
        "chunked_rows.py",
        "lazy.py",
        "selection/blocks.py",
        "tree/locks.py",
        *(f"inference/{x}.py" for x in ("blocks", "blockfit", "survey")),
    },
    "sklearn": {"estimator.py"},
    "distributed": {"inference/blocks.py", "inference/spread.py"},
    "zarr": {"chunked.py"},
    "jax": {"jax_pass.py", "op.py", *(f"inference/jax_{x}.py" for x in ("nuts", "posterior"))},
    "blackjax": {"inference/jax_nuts.py"},
}
"""Packages that named files may import, whatever their floor allows, and no other may."""

HEAVY = (
    "pymc", "pytensor", "nutpie", "arviz_stats", "arviz", "matplotlib", "numba", "sklearn", "zarr",
    "dask", "distributed", "jax",
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One imported module: its full name, the line, and whether only a type checker sees it."""

    module: str
    line: int
    typing_only: bool
    level: int


def imports_of(path: Path) -> Iterator[Import]:
    """Yield every import of a file, those inside functions and type-checking blocks too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in typing_only, 0)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                module = full if base == "bayesgmm" or is_module(full) else base
                yield Import(module, node.lineno, id(node) in typing_only, node.level)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and isinstance(node.args[0], ast.Constant)
        ):
            yield Import(str(node.args[0].value), node.lineno, False, 0)


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name.startswith("bayesgmm.") and (path.is_dir() or path.with_suffix(".py").is_file())


def inside(path: Path) -> str:
    """Return the path of a file within the package."""
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return inside(path).split("/")[0].removesuffix(".py")


def floor_of(room: str) -> int:
    for number, candidate in enumerate(FLOORS):
        if room in candidate.rooms:
            return number
    raise LookupError(f"{room!r} stands on no floor: give it one in FLOORS")


def imported_room(module: str) -> str:
    """Return the room of a module of ours; the package itself is `__init__`."""
    parts = module.split(".")
    known = {room for level in FLOORS for room in level.rooms}
    return parts[1] if len(parts) > 1 and parts[1] in known else "__init__"


def ours(module: str) -> bool:
    return module == "bayesgmm" or module.startswith("bayesgmm.")


every_file = pytest.mark.parametrize("path", FILES, ids=inside)


@every_file
def test_every_file_stands_on_a_floor(path: Path) -> None:
    assert floor_of(room_of(path)) in range(len(FLOORS))


@every_file
def test_imports_run_downward(path: Path) -> None:
    here = floor_of(room_of(path))
    allowed = FLOORS[here].below | {here}
    wrong = [
        f"line {found.line}: {found.module} is on floor {there}, this file on {here}"
        for found in imports_of(path)
        if ours(found.module) and (there := floor_of(imported_room(found.module))) not in allowed
    ]
    assert not wrong


def test_rooms_do_not_import_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        room = room_of(path)
        found = {imported_room(item.module) for item in imports_of(path) if ours(item.module)}
        graph.setdefault(room, set()).update(found - {room})
    graph.pop("__init__")  # imports lazily, and cli.py goes through it
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"rooms import one another: {' -> '.join(error.args[1])}")
    assert set(graph) <= set(order)


@every_file
def test_third_party_imports_are_those_of_the_floor(path: Path) -> None:
    allowed = FLOORS[floor_of(room_of(path))].third_party
    wrong = []
    for found in imports_of(path):
        top = found.module.split(".")[0]
        if ours(found.module) or top in sys.stdlib_module_names or found.typing_only:
            continue
        if inside(path) not in ONLY_IN[top] if top in ONLY_IN else top not in allowed:
            wrong.append(f"line {found.line}: {found.module}")
    assert not wrong


@every_file
def test_no_relative_imports(path: Path) -> None:
    assert [found.line for found in imports_of(path) if found.level] == []


@every_file
def test_no_file_is_two_things(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@every_file
def test_no_function_is_two_things(path: Path) -> None:
    if room_of(path) == "kernels":
        return
    long = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            described = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1 if described else 0]
            if (node.end_lineno or 0) - first.lineno + 1 > 60:
                long.append(f"line {node.lineno}: {node.name}")
    assert not long


@every_file
def test_no_room_for_odds_and_ends(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "helper", "core", "common", "misc"}


def loaded_after(code: str, *arguments: str) -> set[str]:
    """Return the top-level modules that a fresh process has loaded after running some code."""
    report = "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code + report, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    assert loaded_after("import bayesgmm; dir(bayesgmm)").isdisjoint(HEAVY)


def test_the_light_import_test_can_fail() -> None:
    assert "numba" in loaded_after("import bayesgmm.kernels.estep")


def test_a_saved_fit_predicts_without_the_samplers(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    X = np.concatenate([rng.normal(-3.0, 1.0, (30, 2)), rng.normal(3.0, 1.0, (30, 2))])
    bg.save(bg.fit(X, 2, method="map", random_seed=1), tmp_path / "fit.nc")
    code = (
        "import sys, bayesgmm as bg; tree = bg.load(sys.argv[1]);"
        "p = bg.predict_proba(tree, [[-3.0, -3.0], [3.0, 3.0]]); assert p.shape == (2, 2)"
    )
    loaded = loaded_after(code, str(tmp_path / "fit.nc"))
    assert loaded.isdisjoint({"pymc", "pytensor", "nutpie", "matplotlib"})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pymc.math", "pymc.math"),
        ("def f():\n    from pymc import Model", "pymc"),
        ("from bayesgmm import names", "bayesgmm.names"),
        ("from bayesgmm.errors import FitError", "bayesgmm.errors"),
        ("import_module('nutpie')", "nutpie"),
    ],
)
def test_the_reader_of_imports_sees_them_all(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "x.py").write_text(source, encoding="utf-8")
    assert [found.module for found in imports_of(tmp_path / "x.py")] == [expected]

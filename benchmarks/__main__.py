"""Run the benchmarks; write what they measured to docs/performance.md."""

import argparse
from importlib import import_module
from types import ModuleType

from benchmarks import page
from benchmarks.runs import ROOT, Result, Store, run

SECTIONS = (
    "ceilings",
    "gradient",
    "accelerators",
    "options",
    "factors",
    "em",
    "estimator",
    "sampling",
    "whitening",
    "sessions",
    "large",
    "blocks",
    "clustering",
    "components",
)
KEPT = ROOT / "build" / "benchmarks"


def main() -> None:
    """Run the chosen sections, print them, and write the page if every section has been run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="R with mclust, and a C++ compiler for Stan, are used where they are found.",
    )
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all works")
    parser.add_argument("--resume", action="store_true", help="keep what was measured before")
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; choose from {', '.join(SECTIONS)}")
    store = Store(KEPT / ("quick" if options.quick else "full"))
    for name in options.sections or SECTIONS:
        module = import_module(f"benchmarks.{name}")
        _run(name, module, store, options.quick, options.resume)
        print(module.report(_results(name, module, store, options.quick), options.quick))
    modules = {name: import_module(f"benchmarks.{name}") for name in SECTIONS}
    results = {name: _results(name, m, store, options.quick) for name, m in modules.items()}
    missing = [
        name for name, m in modules.items() if len(results[name]) < len(m.jobs(options.quick))
    ]
    if missing:
        print(f"No page is written: not run yet are {', '.join(missing)}.")
        return
    folder = store.folder / "docs" if options.quick else ROOT / "docs"
    print(f"Written: {page.write(folder, modules, results, options.quick)}")


def _run(name: str, module: ModuleType, store: Store, quick: bool, resume: bool) -> None:
    """Run the jobs of a section and keep their results."""
    for job in module.jobs(quick):
        kept = store.read(name, job.name) if resume else None
        result = kept or run(job)
        store.keep(name, job.name, result)
        told = result.missing or "done"
        print(f"{name}: {job.name}: {told}, {result.seconds:.1f} s", flush=True)


def _results(name: str, module: ModuleType, store: Store, quick: bool) -> dict[str, Result]:
    """Return the results of a section that are kept."""
    found = {job.name: store.read(name, job.name) for job in module.jobs(quick)}
    return {name: result for name, result in found.items() if result is not None}


if __name__ == "__main__":
    main()

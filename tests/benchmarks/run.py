"""Runs benchmarks: modules `bench_*.py` of a package, each with a function that yields the rows of the table."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.rows import Absent, Row, Rows


def run(
    package: str, description: str, rows: Callable[[object, argparse.Namespace], Rows], *more: str
) -> int:
    """Run the modules that the command line names, all by default; returns how many failed.

    ``rows(module, options)`` yields a module's rows. ``more`` are further flags, which options then hold. What is not
    here, a folder of data or a peer, is told and passed over.
    """
    found = find_spec(package)
    assert found is not None
    names = sorted(
        file.stem.removeprefix("bench_")
        for folder in found.submodule_search_locations or ()
        for file in Path(folder).glob("bench_*.py")
    )
    parser = argparse.ArgumentParser(prog=package, description=description)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CAIRN_DATA", "../shared/data")))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    for flag in more:
        parser.add_argument(f"--{flag}", action="store_true")
    options = parser.parse_args()
    table: list[Row] = []
    failed = 0
    for name in options.only:
        try:
            for row in rows(import_module(f"{package}.bench_{name}"), options):
                table.append(row)
                print(_shown(row), flush=True)
        except (Absent, ImportError) as absent:
            print(f"  --  {name}: {absent}; passed over", flush=True)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed += 1
    if options.json:
        options.json.write_text(json.dumps([row.as_json() for row in table], indent=1) + "\n")
    short = sum(row.reached is False for row in table)
    print(f"{len(table)} rows; {short} short of their goal; {failed} benchmarks failed")
    return failed


def _shown(row: Row) -> str:
    mark = {True: " ok ", False: "MISS", None: "    "}[row.reached]
    text = f"{mark}  {row.what}: {row.value:.4g} {row.unit}"
    if row.spread:
        text += f" (spread {row.spread:.2g})"
    if row.reference is not None:
        text += f"; {row.peer or 'reference'} {row.reference:.4g}"
    if row.least is not None:
        text += f"; goal at least {row.least:g}"
    if row.most is not None:
        text += f"; goal at most {row.most:g}"
    return text

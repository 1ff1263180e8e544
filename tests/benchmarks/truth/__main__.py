"""`make bench-truth`: everything libs/truth claims, measured on recorded answers beside its peers.

Every module `bench_*.py` here has a function ``rows(data)`` that yields the rows of the table; ``--only`` names some
of them (`--only spans boxes`). What is not here, a folder of data or a peer, is told and passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

from tests.benchmarks.rows import Absent, Row

HERE = Path(__file__).parent


def main() -> int:
    names = sorted(file.stem.removeprefix("bench_") for file in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="bench-truth", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CAIRN_DATA", "../shared/data")))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    chosen = parser.parse_args()
    found: list[Row] = []
    failed = 0
    for name in chosen.only:
        try:
            for row in import_module(f"tests.benchmarks.truth.bench_{name}").rows(chosen.data):
                found.append(row)
                print(_shown(row), flush=True)
        except (Absent, ImportError) as absent:
            print(f"  --  {name}: {absent}; passed over", flush=True)
        except Exception:
            traceback.print_exc()
            failed += 1
    if chosen.json:
        chosen.json.write_text(json.dumps([row.as_json() for row in found], indent=1) + "\n")
    short = sum(row.reached is False for row in found)
    print(f"{len(found)} rows; {short} short of their goal; {failed} benchmarks failed")
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


if __name__ == "__main__":
    sys.exit(main())

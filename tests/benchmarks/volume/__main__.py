"""`make bench`: what Cairn does at volume, each number beside a reference that is measured in the same run.

Every module `bench_*.py` here has a function ``rows(full)``; ``--only`` names some of them (`--only cycle`). ``--full``
measures larger projects for longer, some of them for an hour. All modules one after the other take that long without it.
"""

import sys
from typing import Any

from tests.benchmarks.run import run
from tests.benchmarks.volume.machine import description


def rows(module: Any, options: Any) -> Any:
    """Yield the rows of a module."""
    return module.rows(options.full)


if __name__ == "__main__":
    print("; ".join(f"{name} {version}" for name, version in description().items()))
    sys.exit(run("tests.benchmarks.volume", __doc__ or "", rows, "full"))

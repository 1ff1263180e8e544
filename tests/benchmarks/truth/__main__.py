"""`make bench-truth`: everything libs/truth claims, measured on recorded answers beside its peers.

Every module `bench_*.py` here has a function ``rows(data)``; ``--only`` names some of them (`--only spans boxes`).
"""

import sys
from typing import Any

from tests.benchmarks.run import run


def rows(module: Any, options: Any) -> Any:
    """Yield the rows of a module, measured on a folder of recorded answers."""
    return module.rows(options.data)


if __name__ == "__main__":
    sys.exit(run("tests.benchmarks.truth", __doc__ or "", rows))

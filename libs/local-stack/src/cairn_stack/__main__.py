"""`python -m cairn_stack HOME`: the supervisor of one stack. `cairn up` starts it; people do not."""

import asyncio
import sys
from pathlib import Path

from cairn_stack.errors import ALREADY_SUPERVISED, StackError
from cairn_stack.home import Home
from cairn_stack.options import Options
from cairn_stack.supervisor import AlreadySupervised, Supervisor, sole_supervisor


def main() -> int:
    home = Home(Path(sys.argv[1]))
    try:
        with sole_supervisor(home):
            return asyncio.run(Supervisor(home, Options.read(home)).run())
    except AlreadySupervised:
        return ALREADY_SUPERVISED
    except (StackError, OSError) as error:
        print(error, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.differential [--relay 4000] [--collector 2000] [--first 0]`: 0 leaves one out.

The seeds begin at `--first`. It exits with 1 where a disagreement is of no documented kind.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.differential.judging import RECEIVERS, compare

COUNTS = {"relay": 4000, "collector": 2000}


def main() -> None:
    """Print what each comparison found."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in RECEIVERS:
        parser.add_argument(f"--{name}", type=int, default=COUNTS[name], metavar="COUNT")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    options = vars(parser.parse_args())
    first, is_good = options["first"], True
    for name in RECEIVERS:
        if not options[name]:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = compare(name, Path(folder), range(first, first + options[name]))
        print("\n".join(found.lines(name)))
        print(f"  in {time.monotonic() - began:.0f} s", flush=True)
        is_good &= not found.unknown
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()

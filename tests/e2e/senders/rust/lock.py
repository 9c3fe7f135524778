"""Makes Cargo.lock from versions.lock: the same, with cargo's own name for its registry put in.

The checked-in file names no registry. Cargo writes that name into every lock: it is asked for one.
"""

import re
import subprocess
from pathlib import Path

LOCK = Path("Cargo.lock")

subprocess.run(["cargo", "generate-lockfile", "--quiet"], check=True)
found = re.search(r'^source = ".*"$', LOCK.read_text(), re.MULTILINE)
assert found, "cargo wrote a lock without a source"
LOCK.write_text(Path("versions.lock").read_text().replace('source = "@SOURCE@"', found[0]))

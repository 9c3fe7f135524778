"""A socket as standard input in, an exit code out: the daemon runs it as `-m relay.helper`."""

import sys

from relay.helper.child import main

if __name__ == "__main__":
    sys.exit(main())

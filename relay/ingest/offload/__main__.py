"""The decoding process: a socket as standard input in, an exit code out."""

import sys

from relay.ingest.offload.child import main

if __name__ == "__main__":
    sys.exit(main())

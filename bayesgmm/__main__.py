"""Run the command line: ``python -m bayesgmm``."""

import sys

from bayesgmm.cli import main

if __name__ == "__main__":
    sys.exit(main())

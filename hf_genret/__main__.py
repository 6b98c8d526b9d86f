"""`python -m hf_genret`: the command `hf-genret`."""

from __future__ import annotations

import sys

from hf_genret.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

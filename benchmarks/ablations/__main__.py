"""python benchmarks/ablations COMMAND: see `app`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    from ablations.app import main

    sys.exit(main())

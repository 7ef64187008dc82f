"""``python -m soilkit.export.download ismn --network SCAN --out FOLDER``."""

import sys

from soilkit.export.download import main

if __name__ == "__main__":
    sys.exit(main())

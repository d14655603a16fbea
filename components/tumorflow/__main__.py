"""`python -m tumorflow`, for images, which hold the package without its console script."""

import sys

from tumorflow.cli import main

sys.exit(main())

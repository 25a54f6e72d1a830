"""`python -m pthparse`."""

import sys

from .cli import main

sys.exit(main())

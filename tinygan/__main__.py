"""`python -m tinygan` is the `tinygan` command."""

import sys

from .cli import main

sys.exit(main())

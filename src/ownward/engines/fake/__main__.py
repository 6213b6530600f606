"""Run `python -m ownward.engines.fake --ttft 0.2 --fail 429:3`."""

import sys

from ownward.core import OwnwardError
from ownward.engines.fake._process import main

try:
    main(sys.argv[1:])
except OwnwardError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)

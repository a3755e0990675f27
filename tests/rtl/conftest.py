"""Makes the helpers beside this file importable by the tests below it, in pytest and in a simulator's Python alike."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

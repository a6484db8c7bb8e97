"""How long the long tests are: short by default, full size when asked for by hand."""

import os

IS_FULL = os.environ.get("LORIKEET_TEST_FULL", "") not in ("", "0")
NUM_KILLS = 200 if IS_FULL else 10
OUTAGE_SECONDS = 60.0 if IS_FULL else 5.0
# For tests that hang; they take far less.
TEST_SECONDS = 3600 if IS_FULL else 600

"""How much chaos: a little by default, full size when asked for by hand (LORIKEET_TEST_FULL=1)."""

from tests.integration.sizes import IS_FULL

NUM_CANCELS = 10_000 if IS_FULL else 600
NUM_REVOCATIONS = 1_000 if IS_FULL else 60
SOAK_SECONDS = 1800.0 if IS_FULL else 120.0
FAULT_EVERY_SECONDS = 60.0 if IS_FULL else 8.0
NUM_ROLLING_RESTARTS = 100 if IS_FULL else 6
# What must hold on a machine of its own; a shared one is given time.
SECONDS_TO_FREE = 1.0 if IS_FULL else 5.0
# For tests that hang; they take far less.
TEST_SECONDS = 7200 if IS_FULL else 900

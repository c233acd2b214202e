"""How many times slower this machine is than two cores usually are.

python tests/slowness.py ends with 3 if that is too slow for the whole suite.
"""

import sys
import time
import timeit

SLOWEST = 4  # times slower than usual: the waits inside tests that start programs allow for no more


def slower() -> float:
    """One measurement; a usual core takes half a second for it, and a shared machine may halt for longer at a time."""
    return max(1.0, timeit.timeit("for i in range(16_000_000): s += i", "s = 0", number=1) / 0.5)


if __name__ == "__main__":
    found = []
    for _ in range(5):
        found.append(slower())
        time.sleep(2)
    times = sum(found) / len(found)
    print(f"this machine is {times:.0f} times slower than two cores usually are")
    sys.exit(3 if times > SLOWEST else 0)

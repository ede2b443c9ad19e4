"""The small broken repository of the demo."""

import subprocess
import sys
from pathlib import Path

TASK = "The tests fail. Please fix the bug."

FILES = {
    "basket.py": """def total_price(prices):
    return sum(prices)


def largest_order(orders):
    return min(orders)


def is_even_week(n):
    return n % 2 == 0
""",
    "test_basket.py": """import unittest

from basket import is_even_week, largest_order, total_price


class TestBasket(unittest.TestCase):
    def test_total_price(self):
        self.assertEqual(total_price([1, 2, 3]), 6)

    def test_largest_order(self):
        self.assertEqual(largest_order([1, 5, 3]), 5)

    def test_is_even_week(self):
        self.assertEqual(is_even_week(4), True)


if __name__ == "__main__":
    unittest.main()
""",
}


def write_repository(folder: Path) -> None:
    """A fresh copy in `folder`."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def tests_pass(folder: Path) -> bool:
    """Whether the repository's own tests pass."""
    command = [sys.executable, "-m", "unittest", "-q"]
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False).returncode == 0

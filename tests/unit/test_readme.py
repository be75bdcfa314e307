"""What the README quotes is what was measured."""

import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/speed"))

import write_table


def test_the_table_of_speeds_is_the_benchmarks():
    table = write_table.table()
    assert (ROOT / "tests/speed/figures.md").read_text() == table
    assert table in (ROOT / "README.md").read_text()

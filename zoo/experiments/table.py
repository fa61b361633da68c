"""Tables of runs, as CSV."""

import csv

import numpy as np


def add_row(table, row):
    """Append a dict to a table, whose heading the first one is."""
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def ranged(rows, column):
    """Mean of a column of shares, and its smallest and largest, in per cent."""
    values = 100 * np.array([float(row[column]) for row in rows])
    return f"{values.mean():.1f} ({values.min():.1f} … {values.max():.1f})"

"""Tables of runs, as CSV."""

import csv


def add_row(table, row):
    """Append a dict to a table, whose heading the first one is."""
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)

"""The card of the icon benchmark as a data set on the Hub."""

from __future__ import annotations

import collections
from pathlib import Path

_CARD = """---
license: other
license_name: of-each-icon-set
task_categories:
- image-feature-extraction
configs:
{configs}
---

# Icons by other hands, and on screens

Icons of sets that `memssl-keras` never trains on.

- `all`: Lucide and Tabler.
- `hands`: one drawing of each name by every family of sets.
- `screen`: Lucide as it stands in screenshots, and Lucide.
- `lowshot`: names that many sets draw, as classes.
- `emoji`: emoji whose codepoints are held out.

`group` is the normalised name of what is shown. `memssl evaluate` reads the files:

```sh
memssl evaluate MODEL --task retrieval --data all.parquet --group group --by set --query lucide --gallery tabler
```

Each icon has the licence of its set.

| set | licence | images |
|---|---|---|
{sets}
"""


def write_benchmark_card(folder: str | Path) -> None:
    """Write `README.md` beside the Parquet files of a benchmark: what can be loaded, and whose the icons are.

    Raises:
        ValueError: there is no Parquet in the folder.
    """
    import pyarrow.parquet as pq

    folder, files = Path(folder), collections.defaultdict(list)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for path in sorted(folder.rglob("*.parquet")):
        inside = path.relative_to(folder)
        split = path.stem.partition("-")[0] if len(inside.parts) > 1 else "test"
        files[inside.parts[0].removesuffix(".parquet")].append((split, inside.as_posix()))
        if {"set", "licence"} <= set(pq.read_schema(path).names):
            table = pq.read_table(path, columns=["set", "licence"]).to_pylist()
            counts.update((row["set"], row["licence"]) for row in table)
    if not files:
        raise ValueError(f"benchmark={str(folder)!r}: expected a folder of Parquet files")
    configs = []
    for name, parts in files.items():
        configs += [f"- config_name: {name}", "  data_files:"]
        configs += [f"  - split: {split}\n    path: {file}" for split, file in parts]
    sets = [f"| {name} | {licence} | {count:,} |" for (name, licence), count in sorted(counts.items())]
    text = _CARD.format(configs="\n".join(configs), sets="\n".join(sets))
    (folder / "README.md").write_text(text, encoding="utf-8")

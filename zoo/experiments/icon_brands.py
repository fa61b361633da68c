"""Icons that are a brand's mark: the gallery of the demo shows none."""

import collections
import re

import pyarrow.parquet as pq
from icon_names import Styles, normalised
from icon_sets import read_set

# Names that are a brand to one set and a thing to the others.
THINGS = {
    "blender", "bluetooth", "box", "cake", "captioning-closed", "euro", "line", "nfc", "rss", "signal", "snowflake",
    "square", "usb", "webhook", "x",
}  # fmt: skip
MARKED = re.compile(r"(^|-)(brand|brands|logo|logos)(-|$)")
# Words that are a brand's name and an everyday word too.
EVERYDAY = {"medium", "zoom"}
# Bootstrap Icons has no categories, and these bare names are marks there.
MARKS = {("bi", "line"), ("bi", "signal"), ("bi", "box")}
LISTED = {"ri": "Logos", "mdi": "Brand / Logo", "material-symbols": "Brand"}


def brands(package, data):
    """Normalised names of brands, and words that two sets or more take for one, as two sets of texts."""
    lists = []
    for prefix, rule in (("fa7-brands", ""), ("tabler", "^brand-"), ("ph", "-logo(-|$)"), ("ion", "^logo-")):
        rows = pq.read_table(data / "icons" / "drawn" / f"{prefix}.parquet", columns=["name", "group"])
        lists.append({row["group"] for row in rows.to_pylist() if re.search(rule, row["name"])})
    for prefix, category in LISTED.items():
        collection = read_set(package, prefix)
        styles = Styles.of(collection)
        lists.append({normalised(name, styles) for name in collection["categories"][category]})
    counts = collections.Counter(name for names in lists for name in names)
    words = {name for name, count in counts.items() if count > 1 and "-" not in name and len(name) > 3}
    return set(counts) - THINGS, words - THINGS - EVERYDAY


def is_brand(prefix, name, group, known):
    """Whether an icon is a brand's mark by its own name, its normalised name, or a word of that."""
    names, words = known
    return bool(
        MARKED.search(name)
        or (prefix, name) in MARKS
        or group in names
        or words.intersection(group.split("-"))
    )

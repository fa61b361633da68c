"""Names of icons, normalised alike for all sets: two drawings of one thing get one name.

`normalised("circle-check-outline-24", Styles())` and `normalised("check-circle-fill", Styles())` are both
`check-circle`. The steps, in order:

1. Lower case; `_`, `.`, `/` and spaces count as `-`; the name is split at `-`.
2. A style that the set itself declares goes from the end or the start, the longest first: `-duotone-bold`,
   `baseline-`. Iconify's files list these as `suffixes` and `prefixes`.
3. Words of `STYLES` and sizes of `SIZES` go from the end, and words of `LEADING` from the start, as long as another
   word stays. `line`, `light`, `round`, `sharp` and `regular` are not among them, since things are called so: they go
   only where their set declares them.
4. Words of a brand's mark (`BRANDS`) go from the start and the end: `brand-github`, `logo-github` and `github-logo`
   are `github`.
5. A count of the drawing goes from the end: `folder-2`, `flag-03`, `download-three` are further drawings of a
   folder, a flag, a download. A count behind a lone letter stays: `h-1`.
6. The words are sorted: `circle-check` and `check-circle` name one drawing.

What this does not do: synonyms (`trash`, `delete`, `bin`) stay apart, and so do singular and plural.
"""

import dataclasses
import re

STYLES = {
    "filled",
    "fill",
    "outline",
    "outlined",
    "solid",
    "duotone",
    "twotone",
    "bold",
    "thin",
    "linear",
    "broken",
}
SIZES = {"10", "12", "16", "20", "24", "28", "32", "36", "48", "64", "16px", "20px", "24px", "32px"}
LEADING = {"ios", "md", "baseline", "outline", "outlined", "twotone"}
BRANDS = {"brand", "brands", "logo", "logos", "social", "icon"}
COUNTS = {"one", "two", "three", "four", "five", "six", "alt", "new"}
_PAIRS = {("two", "tone"), ("duo", "tone")}


@dataclasses.dataclass(frozen=True)
class Styles:
    """What a set declares: tuples of words that end or start its names, longest first."""

    suffixes: tuple = ()
    prefixes: tuple = ()

    @classmethod
    def of(cls, collection):
        """The styles of one of Iconify's files, read as a dict."""
        return cls(*(_longest_first(collection.get(kind) or ()) for kind in ("suffixes", "prefixes")))


def _longest_first(styles):
    return tuple(sorted((tuple(style.split("-")) for style in styles if style), key=len, reverse=True))


def _without_declared(words, styles):
    for style in styles.suffixes:
        if len(words) > len(style) and tuple(words[-len(style) :]) == style:
            words = words[: -len(style)]
            break
    for style in styles.prefixes:
        if len(words) > len(style) and tuple(words[: len(style)]) == style:
            return words[len(style) :]
    return words


def _without_general(words):
    while len(words) > 1:
        if words[-1] in STYLES or words[-1] in SIZES:
            words = words[:-1]
        elif len(words) > 2 and tuple(words[-2:]) in _PAIRS:
            words = words[:-2]
        elif words[0] in LEADING:
            words = words[1:]
        else:
            break
    return words


def _without_brand(words):
    while len(words) > 1 and words[0] in BRANDS:
        words = words[1:]
    while len(words) > 1 and words[-1] in BRANDS:
        words = words[:-1]
    return words


def _without_count(words):
    while len(words) > 1 and (words[-1] in COUNTS or re.fullmatch(r"0?\d", words[-1])):
        if len(words) == 2 and len(words[0]) == 1:
            break
        words = words[:-1]
    return words


def normalised(name, styles=Styles()):
    """The name that drawings of one thing share.

    Args:
        name: As the set has it.
        styles: What the set declares.

    Returns:
        Words in alphabetical order with hyphens between; never empty for a name with a letter or digit.
    """
    words = [word for word in re.split(r"[-_./\s]+", name.lower()) if word]
    for step in (lambda w: _without_declared(w, styles), _without_general, _without_brand, _without_count):
        words = step(words)
    return "-".join(sorted(words))

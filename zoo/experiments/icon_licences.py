"""`LICENSES.md` of the demo's gallery, from what the sets say of themselves in `@iconify/json`."""

# ruff: noqa: E501, the licences stand as they are

import collections
import json

HEAD = """# Where the gallery's icons come from

`icons.parquet` holds {count:,} icons of {sets} sets. The column `set` says which licence an icon is under. They were taken
from the npm package `@iconify/json`, drawn black on white or in their colours, and scaled to 48 × 48 pixels; those without
colour were brought to 16 greys. They are otherwise as their authors drew them. `zoo/experiments/icons_gallery.py` made the
selection. Brands' marks were left out. None of the authors endorses this project.

| Set | Icons | Authors | Licence |
|---|---|---|---|
"""
TAIL = """
The text of the Apache License 2.0 is this project's `LICENSE` (also https://www.apache.org/licenses/LICENSE-2.0); of
Creative Commons Attribution 4.0 it is https://creativecommons.org/licenses/by/4.0/.

## MIT License

Copyright (c) the authors of the sets that the table lists under MIT.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

## ISC License

Copyright (c) the authors of the sets that the table lists under ISC.

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
"""
# Licences whose text or address stands in TAIL.
COVERED = {"MIT", "ISC", "Apache-2.0", "CC-BY-4.0"}


def write_licences(package, rows, path):
    """The table of the sets of `rows`, from the package's metadata, and the licences' texts.

    Raises:
        ValueError: a licence has no text here.
    """
    collections_file = json.loads((package / "collections.json").read_text(encoding="utf-8"))
    counts = collections.Counter(row["id"].split(":")[0] for row in rows)
    text = HEAD.format(count=len(rows), sets=len(counts))
    for prefix, count in counts.items():
        info = collections_file[prefix]
        author, licence = info["author"], info["license"]
        if licence["spdx"] not in COVERED:
            raise ValueError(
                f"{prefix}: its licence is {licence['spdx']}; expected one of {', '.join(sorted(COVERED))}"
            )
        whose = f"{author['name']}, {author['url']}" if author.get("url") else author["name"]
        terms = f"{licence['spdx']}, {licence['url']}" if licence.get("url") else licence["spdx"]
        text += f"| {info['name']} (`{prefix}`) | {count:,} | {whose} | {terms} |\n"
    path.write_text(text + TAIL, encoding="utf-8")

"""Writes the page of the references from ``references.bib``: ``python book/references.py``, or ``make format``.

The page is written and not computed by a cell: links lead to its headings also where nothing was executed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ENTRY = re.compile(r"^@\w+\{([\w-]+),\n(?:  \w+ = \{.*\},\n)+\}$", re.MULTILINE)
FIELD = re.compile(r"^  (\w+) = \{(.*)\},$", re.MULTILINE)
TOP = """# References

The works that the pages cite, oldest first. What the marks [A] to [M] mean is said in the
[introduction](introduction.ipynb).
"""


def works(bibtex: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Read the entries: key -> the entry as it is written, and its fields.

    Raises:
        ValueError: if there is anything else than comments and entries of the one form.
    """
    rest = re.sub(r"^%.*$", "", ENTRY.sub("", bibtex), flags=re.MULTILINE).strip()
    if rest:
        raise ValueError(
            f"references.bib: {rest.splitlines()[0]!r}: one field a line, '  name = {{value}},', is needed"
        )
    return {found[1]: (found[0], dict(FIELD.findall(found[0]))) for found in ENTRY.finditer(bibtex)}


def described(key: str, entry: str, fields: dict[str, str]) -> str:
    """Write one work, below a heading by which it is linked."""
    names = [" ".join(reversed(name.split(", "))) for name in fields["author"].split(" and ")]
    authors = " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])
    title, venue = re.sub(r"[{}]", "", fields["title"]), fields.get("booktitle") or fields["journal"]
    arxiv = f" [arXiv {fields['eprint']}](https://arxiv.org/abs/{fields['eprint']})" if "eprint" in fields else ""
    return f"""## {key}

{authors}. *{title}*. {venue}, {fields["year"]}.{arxiv}

<details><summary>BibTeX</summary>

```bibtex
{entry}
```

</details>
"""


def page() -> str:
    """Write the notebook."""
    found = works((BOOK / "references.bib").read_text("utf8"))
    text = "\n".join([TOP, *(described(key, *work) for key, work in found.items())]).strip()
    cell = {"cell_type": "markdown", "id": "references", "metadata": {}, "source": text.splitlines(keepends=True)}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (BOOK / "references.ipynb").write_text(page(), "utf8")

"""What stands below the title of a page: how long its cells take on which machine, and where else it can be opened."""

from __future__ import annotations

import re
from typing import Any

import yaml
from bs4 import BeautifulSoup, Tag
from execute import ROOT

TIMES = ROOT / "book" / "times.json"  # `make times` writes it


def repository() -> dict[str, str]:
    """Where the project is found, as ``_config.yml`` says in one place: ``url``, empty for nowhere, and ``branch``."""
    return yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["repository"]


def places(page: str, url: str, branch: str) -> dict[str, str]:
    """Links of a page, words -> address: none without an address, and to Colab and Binder where they can read it."""
    url = url.rstrip("/").removesuffix(".git")
    named = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", url)
    found = {"The project": url} if url else {}
    if named:
        found["Open in Colab"] = f"https://colab.research.google.com/github/{named[1]}/blob/{branch}/{page}.ipynb"
        found["Open in Binder"] = f"https://mybinder.org/v2/gh/{named[1]}/{branch}?urlpath=lab/tree/{page}.ipynb"
    return found


def measured(page: str, times: dict[str, Any]) -> str:
    """Say how long the cells of a page took, and on what; empty where that was not measured."""
    seconds = times.get("seconds", {}).get(page)
    if seconds is None:
        return ""
    together = f"{times['at_a_time']} pages at a time" if times["at_a_time"] > 1 else "one page at a time"
    machine = f"{times['cores']} cores of {times['processor']}"
    note = f"; {times['note']}" if "note" in times else ""
    return f"Its cells took {seconds:.0f} s on {machine}, {together}, one thread each ({times['date']}{note}). "


def add_top(page: BeautifulSoup, name: str, times: dict[str, Any], where: dict[str, str]) -> None:
    """Put both below what a page says of its minutes, or below its title."""
    said, links = measured(name, times), places(name, where["url"], where.get("branch", "main"))
    minutes = [em for em in page.select("article em") if em.get_text().startswith("About ")]
    above: Tag | None = minutes[0].find_parent("p") if minutes else page.select_one("article h1")
    if above is None or not (said or links):
        return
    line = page.new_tag("p", attrs={"class": "page-top"})
    line.append(said)
    for words, address in links.items():
        link = page.new_tag("a", href=address)
        link.string = words
        line.extend([link, " "])
    above.insert_after(line)

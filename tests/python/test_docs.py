"""Links in the project's Markdown files: every relative one leads to a file that is there, and every #anchor to a heading of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)")
DEFINED = re.compile(r" {0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)")
NAMED = re.compile(r"<[^>]*\b(?:id|name)=[\"']([^\"']+)[\"']")
HREF = re.compile(r"<[^>]*\b(?:href|src)=[\"']([^\"']+)[\"']")


def prose(text: str) -> Iterable[str]:
    """The lines that are no code: neither between fences nor indented by four spaces after an empty line."""
    fence, indented, empty = "", False, True
    for line in text.splitlines():
        found = FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            continue
        if found:
            fence = found[1]
            continue
        indented = line.startswith(("    ", "\t")) and (indented or empty)
        empty = not line.strip()
        if not indented:
            yield line


def slug(heading: str) -> str:
    """GitHub's: of a heading's text the letters, digits, underscores and hyphens, in lower case; a hyphen for each space."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link is its text
    text = re.sub(r"<[^>]+>", "", CODE.sub(r"\2", text))
    return re.sub(r"[^\w\- ]", "", text.replace("*", "").strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Of all headings; one that comes again has -1, -2, ... at its end."""
    found: set[str] = set()
    times: dict[str, int] = {}
    for line in prose(text):
        found.update(NAMED.findall(line))
        heading = HEADING.match(line)
        if heading:
            name = slug(heading[1] or "")
            count = times.get(name, 0)
            times[name] = count + 1
            found.add(f"{name}-{count}" if count else name)
    return found


def links(text: str) -> list[str]:
    lines = [CODE.sub("", line) for line in prose(text)]
    whole = "\n".join(lines)  # a link's text may go over the end of a line
    return [*LINK.findall(whole), *HREF.findall(whole), *(found[1] for line in lines if (found := DEFINED.match(line)))]


def broken(root: Path, pages: Iterable[Path]) -> list[str]:
    """What leads nowhere, as "page: link". Links with a scheme, such as https:, are not looked at."""
    wrong = []
    for page in pages:
        for link in links(page.read_text(encoding="utf-8")):
            if re.match(r"[a-zA-Z][\w+.-]*:|//", link):
                continue
            path, _, anchor = link.partition("#")
            target = page if not path else (page.parent / unquote(path)).resolve()
            good = target.exists() and target.is_relative_to(root)
            if good and anchor and target.suffix == ".md":
                good = unquote(anchor) in anchors(target.read_text(encoding="utf-8"))
            if not good:
                wrong.append(f"{page.relative_to(root)}: {link}")
    return wrong


def markdown_files() -> list[Path]:
    """Those of the repository, also new ones that git does not ignore."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout of it")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "dubious ownership" in found.stderr:
        pytest.skip("git does not read a checkout of another user")
    found.check_returncode()
    names = found.stdout
    return [ROOT / name for name in sorted(set(names.split("\0"))) if name and (ROOT / name).is_file()]


def test_links_lead_somewhere():
    pages = markdown_files()
    assert ROOT / "README.md" in pages and len(pages) > 5
    assert sum(len(links(page.read_text(encoding="utf-8"))) for page in pages) > 50
    assert broken(ROOT, pages) == []


PLANTED = """# A page

[good](docs/other.md) [good](docs/other.md#parts-1) [good](#a-page) [good](docs) [far](https://example.org/none.md#x)
`[code](none.md)` and a text
over [two
lines](docs/none.md), [a title](docs/other.md "Parts")

    [code](none.md)

```
[code](none.md)
```
[bad](docs/other.md#parts-2) [bad](#no-heading) [bad](docs/other.md#none-either) [bad](../outside.md) <img src="none.png">

[defined]: gone.md
"""


def test_planted_links_are_found(tmp_path):
    """Broken ones, and only these."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Parts\n\n## Parts\n\n    # no heading\n\n```\n# none either\n```\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(PLANTED, encoding="utf-8")
    (tmp_path.parent / "outside.md").touch()
    wanted = ["docs/none.md", "docs/other.md#parts-2", "#no-heading", "docs/other.md#none-either", "../outside.md", "none.png", "gone.md"]
    assert broken(tmp_path, [page]) == [f"page.md: {link}" for link in wanted]


def test_a_planted_link_is_found_in_a_page_of_the_project(tmp_path):
    """An anchor that a copy of README.md has, and one that it has not."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    kept = min(anchors(text))
    copy = tmp_path / "README.md"
    copy.write_text(f"{text}\n[planted](#{kept}-not) [kept](#{kept})\n", encoding="utf-8")
    found = broken(tmp_path, [copy])
    assert f"README.md: #{kept}-not" in found
    assert f"README.md: #{kept}" not in found


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("How it works", "how-it-works"),
        ("2.1 Mosaics (version 2)", "21-mosaics-version-2"),
        ("With the preset `balanced`", "with-the-preset-balanced"),
        ("At the rates of the paper's Fig. 7", "at-the-rates-of-the-papers-fig-7"),
        ("At equal file size: is it *better*?", "at-equal-file-size-is-it-better"),
        ("A [link](to.md) in it", "a-link-in-it"),
        ("snake_case - and hyphens", "snake_case---and-hyphens"),
        ("Größe", "größe"),
    ],
)
def test_anchors_are_githubs(heading, name):
    assert anchors(f"# {heading}\n") == {name}
    assert anchors(f"## {heading} ##\n\n# {heading}\n") == {name, f"{name}-1"}

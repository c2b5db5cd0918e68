"""For MkDocs: pages that are kept elsewhere in the repository, put into the documentation.

Their own links lead nowhere on the site and become plain text. Links to them, which are written as
they are good in the repository, lead to where they are on the site.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {"contributing.md": "CONTRIBUTING.md", "measurements.md": "bench/RESULTS.md"}

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)[^)]+\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs once it knows what there is."""
    for name, source in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_LINK.sub(r"\1", text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Called by MkDocs with the text of each page."""
    for name, source in ELSEWHERE.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    return markdown

"""The README's snippets of code, and what stands beside them as their output."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def promised(snippet: str) -> list[str]:
    """The lines it says it prints: what stands behind a print, or on a line of its own after it."""
    return re.findall(r"^(?:print\(.*\)  )?# +(.*)$", snippet, flags=re.MULTILINE)

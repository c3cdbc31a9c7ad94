"""Write the README's examples to a folder, one file each, for type checkers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def write_examples(folder: Path) -> None:
    """Write each block that is marked as Python; those marked `py` are parts of programs."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    for number, block in enumerate(blocks):
        (folder / f"example_{number}.py").write_text(block)


if __name__ == "__main__":
    write_examples(Path(sys.argv[1]))

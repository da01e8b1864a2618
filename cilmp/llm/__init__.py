"""What a language model knows of each class: hidden states (L, d), extracted once, stored, checked, loaded.

`cilmp llm` makes and inspects them; docs/llm.md is the guide.
"""

from cilmp.llm.store import Knowledge, load, read, save

__all__ = ["Knowledge", "load", "read", "save"]

"""The long description: the README without its picture and its relative links, which lead nowhere
from another site.
"""

import re
from pathlib import Path

from setuptools import setup

README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
WITHOUT_PICTURES = re.sub(r"^!\[.*\]\((?!https:)[^)]*\)\n\n", "", README, flags=re.MULTILINE)

setup(
    long_description=re.sub(r"\[([^\]]*)\]\((?!https:)[^)]*\)", r"\1", WITHOUT_PICTURES),
    long_description_content_type="text/markdown",
)

"""`python -m tools.reference`: write the generated blocks of every page (`make docs`)."""

from tools import reference

for page, text in reference.pages().items():
    page.write_text(text)

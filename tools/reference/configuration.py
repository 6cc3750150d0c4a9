"""The keys of the configuration file, from the table that the driver reads it by."""

from tools.reference import markdown, sources


def keys() -> str:
    """Return the table of the keys."""
    rows = (
        (
            markdown.code(f"clusters[].{key.name}"),
            key.meaning,
            key.kind,
            "yes" if key.missing else "",
            markdown.code(key.example),
        )
        for key in sources.CONFIGURATION.TABLE
    )
    return markdown.table(("key", "meaning", "type", "needed", "example"), rows)

"""The type that carries credentials from the request or file to Ceph; it never prints them.

Other guards of secrets: `server/redact.py` (requests in logs), `config/keys.py` (errors of key
files), `host/kernel/memfd.py` and standard input (children never get a secret as an argument),
`telemetry/logs.py` (no tracebacks).
"""


class Secret:
    """A credential. `repr` and `str` return stars, only `reveal` returns the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. Only the call that passes it to Ceph may use this."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

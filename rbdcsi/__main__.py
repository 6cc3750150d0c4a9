"""The command `rbdcsi`, and `python -m rbdcsi`."""

import sys

# structlog loads rich where that is installed, to draw tracebacks that the driver never shows:
# 4 MB and a tenth of a second. The commands that draw tables load it themselves.
_without_rich = sys.modules.setdefault("rich", None) is None  # type: ignore[arg-type]

from rbdcsi.cli.main import main  # noqa: E402  after that

if _without_rich:
    del sys.modules["rich"]

if __name__ == "__main__":
    main()

"""The command `rbdcsi`, and `python -m rbdcsi`."""

import sys

# structlog loads rich where that is installed, to draw tracebacks that the driver never shows:
# 4 MB and a tenth of a second.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from rbdcsi.cli.main import main  # noqa: E402  after that

if __name__ == "__main__":
    main()

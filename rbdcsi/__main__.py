"""`python -m rbdcsi` is `rbdcsi`."""

from rbdcsi.cli import main

main()

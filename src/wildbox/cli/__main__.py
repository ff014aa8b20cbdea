"""`python -m wildbox.cli` is `wildbox`."""

from wildbox.cli.app import main

main()

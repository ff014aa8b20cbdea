"""`python -m wildbox.cli` is `wildbox`."""

from wildbox.cli import main

main()

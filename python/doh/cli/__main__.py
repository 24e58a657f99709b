"""`python -m doh.cli`, where the script `doh` is not on the path."""

from doh.cli import main

main()

"""`python -m almenara` is the `almenara` command."""

from almenara.cli import main

main()

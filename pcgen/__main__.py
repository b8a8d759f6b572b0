"""`python -m pcgen`: the command line, where the program's name is not on the path."""

from pcgen.cli.main import main

raise SystemExit(main())

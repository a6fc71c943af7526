"""Imported only by the fork server: does once what every process would do first."""

import contextlib
import io

from limner.cli import main

with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["train", "--help"])

"""Imported by the fork server alone: what every process would do first is done once."""

import contextlib
import io

from limner.cli import main

with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["train", "--help"])

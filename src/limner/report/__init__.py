"""Results and figures of runs as one HTML page that opens anywhere, with no network."""

from limner.report.page import write

__all__ = ["write"]

"""The one exception that a user causes and can mend."""


class InputError(ValueError):
    """Input that Limner cannot use. The message is one sentence: what was wrong and what to do.

    The command line prints it and exits with status 2; nothing has been written by then.
    """

"""The one base of every error that is the user's to mend."""


class InputError(ValueError):
    """Something that was given cannot be used: an option, a file, a shape. The message is one sentence that names it
    and says what to do."""

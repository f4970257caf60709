"""Said by a meter that this machine cannot run."""


class MeterUnavailableError(RuntimeError):
    """The machine lacks what the meter needs; the message names it and the mend."""

"""What can be wrong with the input of an analysis; every message says what to do.

ExperimentError      figures that cannot be analysed as they are: fix the file or the options
"""

from streamgauge.schemas.errors import StreamgaugeError


class ExperimentError(StreamgaugeError, ValueError):
    """Users, variants or weights that cannot be analysed."""

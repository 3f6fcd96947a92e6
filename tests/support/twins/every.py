"""All twins by name."""

from tests.support.twins import signals, structures, text, vision

TWINS = {**vision.TWINS, **text.TWINS, **signals.TWINS, **structures.TWINS}

"""Token ids that the tiny models give to what is no text."""

from typing import Final

IMAGE: Final = 3
VIDEO: Final = 4
START: Final = 5
END: Final = 6
AUDIO: Final = 9

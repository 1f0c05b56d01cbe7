"""Where clips come from: made (`synthetic`), read from files (`video`, `davis`), or sampled for training (`clips`)."""

from . import clips, davis, synthetic, video

__all__ = ["clips", "davis", "synthetic", "video"]

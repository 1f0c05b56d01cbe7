"""Where clips come from: made (`synthetic`), read from files (`video`, `davis`, `sets`), or drawn for training (`clips`, `video_clips`)."""

from . import clips, davis, sets, synthetic, video, video_clips

__all__ = ["clips", "davis", "sets", "synthetic", "video", "video_clips"]

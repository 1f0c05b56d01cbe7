"""Where clips come from: made (`synthetic`), read from files (`video`, `davis`, `sets`), cut and pasted from those (`pasting`), textured with
pictures (`photos`), or drawn for training (`clips`, `video_clips`).
"""

from . import clips, davis, pasting, photos, sets, synthetic, video, video_clips

__all__ = ["clips", "davis", "pasting", "photos", "sets", "synthetic", "video", "video_clips"]

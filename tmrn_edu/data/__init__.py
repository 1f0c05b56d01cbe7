"""Where clips come from: made (`synthetic`), read from files, or sampled for training."""

from . import synthetic

__all__ = ["synthetic"]

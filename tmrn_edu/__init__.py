"""Memory networks for video object segmentation, to be read and run."""

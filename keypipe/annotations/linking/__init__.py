"""Which keypoint belongs to which object of an image."""

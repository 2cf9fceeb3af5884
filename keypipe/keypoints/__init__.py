"""Skeletons, instances and their keypoints: the values that every other package speaks of."""

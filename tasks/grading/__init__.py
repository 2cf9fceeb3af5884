"""How keypoints, epochs and the first batches of a training are graded."""

"""labelme folders: reading and writing files, and which keypoint belongs to which object."""

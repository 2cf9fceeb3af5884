"""The only importers of DVC: the raw data, the stages, and what DVC's cache keeps."""

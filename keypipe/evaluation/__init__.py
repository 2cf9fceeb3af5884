"""How good predictions are: OKS, average precision, keypoint errors, and how sure the figures are."""

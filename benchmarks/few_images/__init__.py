"""What a recipe of training is worth with a few hundred images: cross-validated, in pairs, at equal steps."""

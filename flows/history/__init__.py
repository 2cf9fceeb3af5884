"""Earlier trainings: known, compared, reproduced, kept and pruned."""

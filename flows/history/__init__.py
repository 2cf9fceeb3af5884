"""Earlier trainings: known, compared, reproduced, kept and cleaned up."""

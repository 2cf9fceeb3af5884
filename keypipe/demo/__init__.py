"""The demo dataset: cows on a pasture and in a barn, drawn by a seeded program."""

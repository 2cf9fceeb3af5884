"""What is recorded beside the trainings: sweeps, and looks at models in use."""

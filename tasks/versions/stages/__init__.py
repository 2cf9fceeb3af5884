"""The stages as DVC sees them: whether they are up to date, and how they are run and taken as they are."""

"""The pages that the stages write about what they did."""

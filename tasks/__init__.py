"""The stage programs: each reads its inputs, computes with keypipe, and moves whole results into place."""

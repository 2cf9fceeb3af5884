"""``keypipe serve`` measured: against the predictor alone and against other servers, its memory, and its switches."""

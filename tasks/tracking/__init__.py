"""The only importer of MLflow: one run for a training, child runs for what is measured afterwards."""

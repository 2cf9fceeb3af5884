"""``keypipe sweep``: trainings with other values of ``params.yaml``, the best of which one command takes over."""

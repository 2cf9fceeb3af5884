"""What brings the outbox to MLflow: delivery, and a courier that does it beside a training."""

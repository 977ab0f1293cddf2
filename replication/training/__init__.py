"""Training: the one update loop, and the methods on top of it. Knows nothing of DVC, MLflow or LaTeX."""

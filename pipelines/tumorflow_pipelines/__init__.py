"""How the steps are chained: Kubeflow pipeline, dvc.yaml and local runs."""

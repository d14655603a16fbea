"""The model registry as a place where reviewers decide: a policy, an audit and what follows a decision.

`app` is a plug-in of MLflow's server. It judges at the one place that no way around leads past, MLflow's own
database session, and writes the decision and its audit entry in one transaction.
"""

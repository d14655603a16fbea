"""The service's side of a decision: a folder that holds the champion's files, and follows the registry."""

"""Step 6: exports to TFLite, checks parity and registers the model version."""

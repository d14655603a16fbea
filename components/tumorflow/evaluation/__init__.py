"""Step 5: measures the model on the locked test set, explains it and decides at the gate."""

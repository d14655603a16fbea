"""Step 4: trains a classifier on the shards."""

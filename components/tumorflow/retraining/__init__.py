"""Whether enough has come that the champion does not know to train anew."""

"""The training loop, and the epochs of methods with a loss on examples."""

"""The training loop, and training by epochs for methods with a loss on examples."""

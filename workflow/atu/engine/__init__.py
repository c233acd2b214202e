"""One language model: loading it, asking it, scoring with it, as its own plain forward pass would."""

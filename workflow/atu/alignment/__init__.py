"""The inputs that Align-then-Unlearn computes once (texts, windows, hidden states), and the predictor."""

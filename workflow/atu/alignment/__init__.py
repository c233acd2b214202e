"""What Align-then-Unlearn computes once: texts, windows, hidden states; and the predictor that is aligned on them."""

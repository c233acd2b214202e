"""Tables, figures, cards and pages, made from evaluations."""

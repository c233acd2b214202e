"""From evaluations to tables, figures, cards and pages."""

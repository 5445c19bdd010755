"""Whether a trained model may be shipped: its dose errors on a locked set of cases must not be worse than the shipped model's."""

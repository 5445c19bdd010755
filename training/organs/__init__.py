"""The `organs` model: its data, network, training and export."""

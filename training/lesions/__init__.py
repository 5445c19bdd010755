"""The `lesions` model: its data, network, training and export."""

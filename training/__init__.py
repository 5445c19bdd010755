"""Training: what changes weights. One folder a model, each with `data.py`, `model.py`, `train.py` and `export.py`."""

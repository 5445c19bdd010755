"""What a thing is: frozen values that refuse what they cannot be. No file, no formula, no engine."""

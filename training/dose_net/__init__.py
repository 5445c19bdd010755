"""Training of `dose-net`: the dose of the true activity from the dose of a blurred and noisy scan."""

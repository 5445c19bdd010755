"""What stands in a textbook: no file, no clock, no device, no logging."""

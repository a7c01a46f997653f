"""What operators see of a running process: health, metrics and traces."""

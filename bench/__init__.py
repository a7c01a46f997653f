"""What it does in a second: one command each, every figure beside a pgbench baseline taken in the same run."""

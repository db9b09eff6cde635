"""The benchmarks: their arithmetic, their truth, small real runs."""

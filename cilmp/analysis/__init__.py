"""Programs that look at finished runs: a report, and the figures of a paper."""

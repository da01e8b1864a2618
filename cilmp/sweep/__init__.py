"""A protocol's runs over trainers, data sets, shots and seeds: what they are, in which order, and where they run."""

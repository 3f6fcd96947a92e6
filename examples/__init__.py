"""Programs for a clone: experiments, and models on several processes and devices."""

"""Programs that outlive a process: kept in the cache, or in one file with the model."""

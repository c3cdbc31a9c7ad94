"""The benchmark: sessioncache beside what else there is, on one real Redis. Run it with scripts/bench."""

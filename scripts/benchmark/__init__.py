"""The benchmark: sessioncache and its rivals, side by side on one real Redis. Run it with scripts/bench."""

"""Every operation of a cache, written once, as a flow."""

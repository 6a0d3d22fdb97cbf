"""The status page that the daemon serves on request: what `sarwater status` knows, in a browser, without a network."""

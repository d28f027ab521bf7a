"""The ground that knows no network: states, the clock, exceptions, files."""

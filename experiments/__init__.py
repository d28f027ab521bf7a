"""One script for each question a user asks; see docs/design.md for the contract they share."""

"""The version of pcsim, used by the build and recorded in runs and results."""

VERSION = "0.2.0"
